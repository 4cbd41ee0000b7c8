"""The Chinese pages of docs/zh say the same as their English twins: code, tables, headings and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
DOCS = REPO / "docs"
CHINESE = sorted((DOCS / "zh").rglob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text(page):
    return page.read_text(encoding="utf-8")


def prose(page):
    return FENCE.sub("", text(page))


def english(page):
    return DOCS / page.relative_to(DOCS / "zh")


def chinese(page):
    """Where the Chinese twin of an English page stands, or would stand; None for any other file."""
    return DOCS / "zh" / page.relative_to(DOCS) if page.is_relative_to(DOCS) else None


def code(page):
    """Language and content of each block, in order; what follows a # behind a blank is a comment."""
    return [
        (name, re.sub(r"(^|[ \t]+)# .*", "", block, flags=re.M)) for name, block in FENCE.findall(text(page))
    ]


def tables(page):
    """The number of cells of each row, in order; an escaped bar is no border of a cell."""
    return [len(re.findall(r"(?<!\\)\|", row)) for row in re.findall(r"^\|.*", prose(page), re.M)]


def levels(page):
    return re.findall(r"^(#+) ", prose(page), re.M)


def anchors(page):
    headings = re.findall(r"^#+ (.*)", prose(page), re.M)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def links(page):
    """File and anchor of each link to a file, in order."""
    found = (link.partition("#") for link in LINK.findall(prose(page)) if "://" not in link)
    return [((page.parent / name).resolve() if name else page, anchor) for name, _, anchor in found]


def twin(file):
    """The English file that a Chinese one translates; any other file is its own."""
    if file == REPO / "README_cn.md":
        return REPO / "README.md"
    return english(file) if file in CHINESE else file


def number(file, anchor):
    """Which heading of its file a link leads to, the same in both languages."""
    return anchors(file).index(anchor) if anchor else None


def pages():
    return pytest.mark.parametrize("page", CHINESE, ids=lambda page: str(page.relative_to(DOCS / "zh")))


def test_every_chinese_page_translates_an_english_one():
    assert CHINESE
    assert [page.name for page in CHINESE if not english(page).exists()] == []


def test_every_english_page_is_translated():
    missing = [page for page in DOCS.rglob("*.md") if page not in CHINESE and chinese(page) not in CHINESE]
    assert missing == []


@pages()
def test_the_code_of_both_languages_is_the_same(page):
    assert code(page) == code(english(page))


@pages()
def test_headings_and_tables_of_both_languages_have_the_same_shape(page):
    assert levels(page) == levels(english(page))
    assert tables(page) == tables(english(page))


@pages()
def test_every_link_of_a_chinese_page_leads_to_a_file_and_a_heading(page):
    for file, anchor in links(page):
        assert file.exists(), file
        assert not anchor or anchor in anchors(file), f"{file.name}#{anchor}"


@pages()
def test_both_languages_link_to_the_same_places(page):
    original = english(page)
    here = [(twin(file), number(file, anchor)) for file, anchor in links(page) if file != original]
    there = [(file, number(file, anchor)) for file, anchor in links(original) if file != page]
    assert sorted(here, key=str) == sorted(there, key=str)


@pages()
def test_a_chinese_page_links_to_chinese_pages_where_there_are_any(page):
    targets = [file for file, _ in links(page) if file != english(page)]
    assert [file.name for file in targets if chinese(file) in CHINESE] == []
    assert REPO / "README.md" not in targets


@pages()
def test_the_two_languages_link_to_each_other_below_the_title(page):
    for source, target in ((page, english(page)), (english(page), page)):
        first = next(line for line in text(source).splitlines()[1:] if line)
        assert target in [(source.parent / link).resolve() for link in LINK.findall(first)]


@pages()
def test_a_chinese_sentence_has_chinese_punctuation(page):
    plain = re.sub(r"`[^`\n]*`|\]\([^)]*\)|\"[^\"\n]*\"", "", prose(page))
    assert re.findall(r"[\u4e00-\u9fff][.,;:?!()].*", plain) == []
