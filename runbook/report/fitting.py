"""Fits a rendered notebook into a page: headings below the page's own, ids of its own, each table in a box that scrolls by keyboard."""

import html
from html.parser import HTMLParser

# From the highest to the lowest.
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def fitted(body: str, *, prefix: str = "", below: int = 0, titled: bool = True) -> str:
    """Return a rendered notebook as it can stand in a page, beside others.

    Args:
        body: HTML.
        prefix: put before each id, so that several notebooks stand on one page.
        below: by how many levels its headings are lowered.
        titled: whether its title stays; not where the page has it already.
    """
    fitter = _Fitter(prefix, below, titled)
    fitter.feed(body)
    fitter.close()
    return fitter.text


class _Fitter(HTMLParser):
    """Hands on what it reads, but for the few tags that are fitted."""

    def __init__(self, prefix: str, below: int, titled: bool) -> None:
        super().__init__(convert_charrefs=False)
        self._prefix = prefix
        self._below = below
        self._parts: list[str] = []
        # Where the title begins that is being left out, and whether that was done.
        self._title_at: int | None = None
        self._titled = titled
        # Where the table begins that is being read: the label of its box is known at its end only, from its caption.
        self._table_at: int | None = None
        self._tables = 0
        self._caption = ""
        self._in_caption = False

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "h1" and not self._titled:
            self._titled, self._title_at = True, len(self._parts)
        if tag == "table" and self._table_at is None:
            self._table_at, self._caption = len(self._parts), ""
            self._tables += 1
            self._parts.append("")
        self._in_caption = tag == "caption" or self._in_caption
        fitted = [(name, self._prefixed(name, value)) for name, value in attributes]
        fitted += [("scope", "col")] if tag == "th" and "scope" not in dict(attributes) else []
        if self._shifted(tag) == tag and fitted == attributes:
            self._parts.append(self.get_starttag_text() or "")
        else:
            self._parts.append(f"<{self._shifted(tag)}{''.join(map(_attribute, fitted))}>")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)  # without an end of its own: </br> would be a second line break

    def handle_endtag(self, tag: str) -> None:
        self._in_caption = self._in_caption and tag != "caption"
        if tag == "h1" and self._title_at is not None:
            del self._parts[self._title_at :]
            self._title_at = None
        elif tag == "table" and self._table_at is not None:
            label = f"{self._prefix.rstrip('-')} table {self._tables}{self._caption and ': '}{html.unescape(self._caption)}".strip()
            self._parts[self._table_at] = f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(label)}">'
            self._parts.append("</table></div>")
            self._table_at = None
        else:
            self._parts.append(f"</{self._shifted(tag)}>")

    def handle_data(self, data: str) -> None:
        self._parts.append(data)
        self._caption += data if self._in_caption else ""

    def handle_entityref(self, name: str) -> None:
        self.handle_data(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.handle_data(f"&#{name};")

    def _shifted(self, tag: str) -> str:
        return _HEADINGS[min(_HEADINGS.index(tag) + self._below, 5)] if tag in _HEADINGS else tag

    def _prefixed(self, name: str, value: str | None) -> str | None:
        if value and name == "id":
            return self._prefix + value
        return f"#{self._prefix}{value[1:]}" if value and name == "href" and value.startswith("#") else value


def _attribute(attribute: tuple[str, str | None]) -> str:
    name, value = attribute
    return f" {name}" if value is None else f' {name}="{html.escape(value)}"'
