"""The page of benchmarks is written by the benchmarks, from what they have measured."""

import re

import pytest

from benchmarks.__main__ import GROUPS, PAGE, page

pytestmark = pytest.mark.any_precision


def test_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: `python -m benchmarks --tables`"


def test_page_shows_each_group_once_and_its_pictures():
    shown = re.findall(r"^## (.*)$", page(), re.MULTILINE)
    assert set(shown) <= {group.title for group in GROUPS.values()}
    assert len(shown) == len(set(shown)) >= 7
    pictures = re.findall(r"!\[.*\]\((.*)\)", page())
    assert pictures
    assert all((PAGE.parent / picture).is_file() for picture in pictures)
