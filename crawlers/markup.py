"""Code blocks, brought into one form before any extraction flattens them.

Six ways to mark up code are known: plain `pre`; `pre > code`; coloured spans; `br`
between lines (Medium); an element for each line; a table with line numbers.
"""

from __future__ import annotations

from bs4 import BeautifulSoup, NavigableString, Tag

_LINE_ELEMENTS = ["div", "p", "li", "tr"]


def keep_code(soup: BeautifulSoup) -> None:
    """Rewrite every code block as `pre > code` with newline characters, in place."""
    for table in soup.find_all("table"):
        _unwrap_numbered(table)
    for block in soup.find_all("pre"):
        if block.find_parent("pre") is None and not block.decomposed:
            _flatten(soup, block)


def _unwrap_numbered(table: Tag) -> None:
    """A table whose cells hold line numbers and code: keep its last `pre`, or its code cells."""
    blocks = table.find_all("pre")
    if len(blocks) > 1 and _is_numbers(blocks[0].get_text()):
        table.replace_with(blocks[-1].extract())
        return
    for row in table.find_all("tr") if table.find_parent("pre") else []:
        cells = row.find_all("td")
        if len(cells) > 1 and _is_numbers(cells[0].get_text()):
            cells[0].decompose()


def _is_numbers(text: str) -> bool:
    return all(word.isdigit() for word in text.split())


def _flatten(soup: BeautifulSoup, block: Tag) -> None:
    for number in block.select(".lineno, .linenos, .line-number, [data-line-number]:empty"):
        number.decompose()
    for line_break in block.find_all("br"):
        line_break.replace_with("\n")
    for line in block.find_all(_LINE_ELEMENTS):
        if not line.find(_LINE_ELEMENTS) and not line.get_text().endswith("\n"):
            line.append("\n")
    code = soup.new_tag("code")
    language = code_language(block)
    if language:
        code["class"] = f"language-{language}"
    code.append(NavigableString(block.get_text().strip("\n")))
    block.clear()
    block.append(code)


def code_language(block: Tag) -> str:
    """What the classes of a code block name as its language; empty where none does."""
    for tag in (block, *block.find_all("code")):
        for name in tag.get_attribute_list("class"):
            for prefix in ("language-", "lang-", "highlight-source-"):
                if isinstance(name, str) and name.startswith(prefix):
                    return name.removeprefix(prefix)
    return ""
