"""What a page must be for each reader: every check returns its complaints about an open page, none if all is well."""

from collections.abc import Sequence
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

MOST_BYTES = 3 * 2**20
# Of A4 within its margins, which are 12 mm on each side.
PAPER_PX = 703
# How many stops of the Tab key are followed at most; a page has some dozens.
MOST_STOPS = 400

# The rules of axe-core on which the width or the colours of a screen have a bearing.
OF_THE_SCREEN = ("color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size")

# What a browser would fetch, apart from what it fetched: an icon that headless browsers leave alone, a font that no letter took.
_REFERENCES = r"""() => {
  const found = [];
  for (const element of document.querySelectorAll('link[href], [src], [srcset], [poster], object[data], [background]'))
    for (const name of ['href', 'src', 'srcset', 'poster', 'data', 'background'])
      if (element.hasAttribute(name) && !/^\s*(data:|$)/.test(element.getAttribute(name)))
        found.push(`<${element.localName} ${name}=${element.getAttribute(name).slice(0, 80)}>`);
  const styles = [...document.querySelectorAll('style')].map(each => each.textContent)
    .concat([...document.querySelectorAll('[style]')].map(each => each.getAttribute('style')));
  for (const style of styles)
    for (const match of style.matchAll(/url\(\s*["']?(?!data:|#)([^)]*)\)|@import[^;]*/g)) found.push(match[0]);
  for (const element of document.querySelectorAll('iframe, object, embed, meta[http-equiv=refresh]'))
    found.push(`<${element.localName}>`);
  return found;
}"""

_SENTENCE = """() => {
  const sentence = document.querySelector('.sentence');
  if (!sentence || !sentence.innerText.trim()) return ['there is no sentence'];
  const box = sentence.getBoundingClientRect(), style = getComputedStyle(sentence), found = [];
  if (!sentence.checkVisibility({opacityProperty: true, visibilityProperty: true})) found.push('the sentence is hidden');
  if (box.top < 0 || box.left < 0 || box.bottom > innerHeight || box.right > document.documentElement.clientWidth)
    found.push(`the sentence is not in the first screen: ${Math.round(box.left)},${Math.round(box.top)} to `
      + `${Math.round(box.right)},${Math.round(box.bottom)} in ${innerWidth}x${innerHeight}`);
  if (sentence.scrollWidth > sentence.clientWidth + 1 || sentence.scrollHeight > sentence.clientHeight + 1)
    found.push('the sentence is clipped');
  const seen = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  if (seen && !sentence.contains(seen)) found.push(`the sentence is covered by <${seen.localName}>`);
  return found;
}"""

_OVERFLOW = """() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth <= width) return found;
  for (const element of document.body.querySelectorAll('*')) {
    if (element.closest('.scroll') && !element.matches('.scroll')) continue;
    const right = Math.round(element.getBoundingClientRect().right);
    if (right > width + 1) found.push(`<${element.localName} class="${element.className}"> reaches ${right} of ${width}`);
  }
  return found.length ? found : [`the page is ${document.documentElement.scrollWidth} wide, of ${width}`];
}"""

_STRUCTURE = r"""() => {
  const found = [], count = (selector, wanted) => {
    const number = document.querySelectorAll(selector).length;
    if (number !== wanted) found.push(`${number} of ${selector}, not ${wanted}`);
  };
  count('h1', 1); count('body > header', 1); count('body > main', 1); count('body > footer', 1);
  if (!document.documentElement.lang) found.push('no language');
  if (!document.title.trim()) found.push('no title');
  let last = 0;
  for (const heading of document.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
    const level = Number(heading.localName[1]);
    if (level > last + 1) found.push(`<${heading.localName}> ${heading.textContent.trim()} follows <h${last}>`);
    if (!heading.textContent.trim()) found.push(`an empty <${heading.localName}>`);
    last = level;
  }
  for (const picture of document.querySelectorAll('img, [role=img]')) {
    const text = (picture.getAttribute('alt') ?? picture.getAttribute('aria-label') ?? '').trim();
    if (text.length < 15 || /\.(png|svg|jpe?g)$|^No description/i.test(text)) found.push(`a picture says only "${text}"`);
  }
  for (const table of document.querySelectorAll('table')) {
    if (!table.querySelector('th')) found.push(`a table without headings: ${table.textContent.trim().slice(0, 60)}`);
    const box = table.closest('.scroll');
    if (!box) found.push(`a table in no box that scrolls: ${table.textContent.trim().slice(0, 60)}`);
    else if (box.tabIndex !== 0 || box.getAttribute('role') !== 'region'
        || !(box.ariaLabel || document.getElementById(box.getAttribute('aria-labelledby'))?.textContent || '').trim())
      found.push('a box that scrolls, which no keyboard reaches, or which has no name');
  }
  for (const heading of document.querySelectorAll('th'))
    if (!heading.scope) found.push(`a heading of a table without scope: ${heading.textContent.trim()}`);
  const ids = new Set();
  for (const element of document.querySelectorAll('[id]')) {
    if (ids.has(element.id)) found.push(`id ${element.id} twice`);
    ids.add(element.id);
  }
  for (const link of document.querySelectorAll('a[href^="#"]'))
    if (!document.getElementById(decodeURIComponent(link.hash.slice(1)))) found.push(`a link to ${link.hash}, which is not there`);
  return found;
}"""

_STOP = """() => {
  const stop = document.activeElement;
  if (!stop || stop === document.body || stop === document.documentElement) return null;
  stop.scrollIntoView({block: 'nearest', inline: 'nearest'});
  const box = stop.getBoundingClientRect(), style = getComputedStyle(stop);
  window.stops = window.stops || [];
  const before = window.stops.at(-1);
  window.stops.push(stop);
  return {
    name: `<${stop.localName}> ${(stop.getAttribute('aria-label') || stop.textContent).trim().slice(0, 40)}`,
    seen: window.stops.indexOf(stop) < window.stops.length - 1,
    follows: !before || !!(before.compareDocumentPosition(stop) & Node.DOCUMENT_POSITION_FOLLOWING),
    ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    visible: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && style.clipPath === 'none'
      && stop.checkVisibility({opacityProperty: true, visibilityProperty: true}),
    target: stop.getAttribute('href'),
  };
}"""

_PRINT = """() => {
  const found = [];
  for (const element of document.querySelectorAll(
      '.sentence, h1, h2, h3, h4, main p, main li, main img, main svg, main tr, main dt, main dd, main pre, caption, footer p')) {
    if (element.closest('details.code') || !element.textContent.trim() && !element.matches('img, svg')) continue;
    const box = element.getBoundingClientRect(), every = {opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true};
    if (!element.checkVisibility(every) || !box.width || !box.height)
      found.push(`<${element.localName}> ${element.textContent.trim().slice(0, 60)} is hidden`);
  }
  for (const code of document.querySelectorAll('details.code, .skip'))
    if (code.checkVisibility()) found.push(`<${code.localName}> ${code.textContent.trim().slice(0, 20)} is printed`);
  for (const head of document.querySelectorAll('thead'))
    if (getComputedStyle(head).display !== 'table-header-group') found.push('the heading of a table is not repeated on its next page');
  for (const box of document.querySelectorAll('.scroll'))
    if (getComputedStyle(box).overflowX !== 'visible') found.push(`${box.ariaLabel} is cut off at the edge of the paper`);
  const paper = getComputedStyle(document.body).backgroundColor;
  if (!['rgb(255, 255, 255)', 'rgba(0, 0, 0, 0)'].includes(paper)) found.push(`the paper is ${paper}`);
  return found;
}"""

_MOTION = """() => {
  const moving = [...document.querySelectorAll('*')].filter(each => {
    const style = getComputedStyle(each);
    return style.animationName !== 'none' || style.transitionDuration.split(',').some(time => parseFloat(time) > 0)
      || style.scrollBehavior === 'smooth';
  });
  return moving.map(each => `<${each.localName}> moves`);
}"""

_FORCED_COLOURS = """() => [...document.querySelectorAll('*')]
  .filter(each => getComputedStyle(each).forcedColorAdjust !== 'auto' && each.namespaceURI === 'http://www.w3.org/1999/xhtml')
  .map(each => `<${each.localName} class="${each.className}"> keeps its own colours`)"""


def references(page: Page) -> list[str]:
    """What it refers to outside of itself."""
    return list(page.evaluate(_REFERENCES))


def sentence_on_first_screen(page: Page) -> list[str]:
    """Whether the sentence can be read before anything is touched."""
    return list(page.evaluate(_SENTENCE))


def overflow(page: Page) -> list[str]:
    """What makes the page itself scroll sideways; tables do so in their own boxes."""
    return list(page.evaluate(_OVERFLOW))


def structure(page: Page) -> list[str]:
    """Landmarks, headings, tables, pictures, ids and the links to them."""
    return list(page.evaluate(_STRUCTURE))


def tab_order(page: Page) -> list[str]:
    """Follow the Tab key through the page: a skip link first, then in the order of reading, each stop in sight, with a ring."""
    stops: list[dict[str, Any]] = []
    while len(stops) < MOST_STOPS:
        page.keyboard.press("Tab")
        stop = page.evaluate(_STOP)
        if not stop or stop["seen"]:
            break
        stops.append(stop)
    else:
        return [f"more than {MOST_STOPS} stops"]
    if not stops or stops[0]["target"] != "#content":
        return ["the first stop does not skip to the content"]
    ways = {"follows": "comes before the stop before it", "ring": "has no ring", "visible": "is out of sight"}
    return [f"{stop['name']} {complaint}" for stop in stops for way, complaint in ways.items() if not stop[way]]


def printed(page: Page) -> list[str]:
    """What is hidden on paper and should not be, the reverse, and what is wider than the paper."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PAPER_PX, "height": 1000})
    try:
        wide = page.evaluate("document.documentElement.scrollWidth")
        return [*page.evaluate(_PRINT), *([f"it is {wide} px wide, and the paper {PAPER_PX}"] if wide > PAPER_PX else [])]
    finally:
        page.emulate_media(media="screen")


def motion(page: Page) -> list[str]:
    """What moves."""
    return list(page.evaluate(_MOTION))


def forced_colours(page: Page) -> list[str]:
    """What defies the colours of a reader who chose his own, and whether the verdict is text all the same."""
    page.emulate_media(forced_colors="active")
    try:
        return [*page.evaluate(_FORCED_COLOURS), *sentence_on_first_screen(page)]
    finally:
        page.emulate_media(forced_colors="none")


def accessibility(page: Page, rules: Sequence[str] = ()) -> list[str]:
    """What axe-core finds serious or critical, with all that folds opened; by these rules alone if there are any."""
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    options = {"resultTypes": ["violations"], "preload": False, **({"runOnly": {"type": "rule", "values": list(rules)}} if rules else {})}
    violations = Axe().run(page, options=options).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {each['nodes'][0]['html'][:120]}"
        for each in violations
        if each["impact"] in ("serious", "critical")
    ]
