"""Makes imports of Jupyter's packages fast; import it before them.

`jsonschema`, which nbformat imports, imports the optional package `rfc3987_syntax` if it is installed. That one compiles a grammar for
1.2 s, in each worker process and once for the pages, to check the format `iri`, which the schema of notebooks does not use. None in
`sys.modules` makes its import fail, as if it were not installed.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
