"""What `twin verify` expects of transforms, and the manual's examples."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.audit import Held, compare, expected
from core.config import load_settings
from core.documents import document_key, read_document
from core.events import Op
from tests.transform_cases import (
    FIELD_SPECS,
    OPS,
    PUBLIC,
    STATES,
    chain,
    change,
    document,
    explaining,
    nothing,
    own,
    to_collection,
    two_parts,
)


def wanted(raw: Mapping[str, Any], *specs: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    return expected(chain(*specs), "twin", "articles", {"_id": "k", **raw})


def hashed(raw: Mapping[str, Any], key: str = '"k"', collection: str = "articles") -> str:
    return read_document(collection, key, raw).source_hash()


def test_verify_expects_what_the_transforms_make() -> None:
    """A masked document hashes as masked; without transforms as it is."""
    raw = {"content": "text", "author_full_name": "me"}
    spec = {"type": "mask", "fields": ["author_full_name"]}
    assert wanted(raw) == {("articles", '"k"'): hashed(raw)}
    assert wanted(raw, spec) == {("articles", '"k"'): hashed({**raw, "author_full_name": "***"})}
    assert wanted(raw, {"type": "flatten"}) == wanted(raw)


def test_verify_expects_what_is_left_out_to_be_absent() -> None:
    """Filtered, excluded or dropped: what Qdrant still holds of it is orphaned."""
    for spec in (PUBLIC, {"type": "exclude", "collections": ["articles"]}, own(nothing)):
        assert wanted({"state": "draft"}, spec) == {}
    held = {("articles", '"k"'): Held("hash", 1, 0, {})}
    assert compare({}, held).orphaned == [("articles", '"k"')]


def test_verify_expects_documents_where_transforms_put_them() -> None:
    """Under other keys and in other collections too."""
    raw = {"content": "x"}
    assert wanted(raw, own(two_parts)) == {
        ("articles", '"k"'): hashed(raw),
        ("articles", '"k-copy"'): hashed(raw, '"k-copy"'),
    }
    assert wanted(raw, own(to_collection, name="posts")) == {
        ("posts", '"k"'): hashed(raw, collection="posts")
    }


def test_a_document_that_no_transform_gets_through_is_never_in_step() -> None:
    """It was set aside: missing, or stale where an earlier state got through."""
    should = wanted({"content": "x"}, own(explaining))
    (ref,) = should
    held = {ref: Held(hashed({"content": "x"}), 1, 0, {})}
    assert compare(should, {}).missing == [ref]
    assert compare(should, held).stale == [ref]


@given(STATES, st.lists(FIELD_SPECS, max_size=3), OPS)
def test_verify_expects_exactly_what_is_sent(
    state: dict[str, Any], specs: list[dict[str, Any]], op: Op
) -> None:
    """f(document) is the same whether it came as an insert, as an update or is read by verify."""
    event = change(op=op, document=state)
    sent = {
        (made.collection, made.key): hashed(made.document, made.key)
        for made in chain(*specs).apply(event)
        if made.document is not None
    }
    assert expected(chain(*specs), "twin", "articles", state) == sent


def test_the_key_of_an_event_is_that_of_its_document() -> None:
    """As this module's events have it."""
    assert change().key == document_key("k")


# -- the manual -------------------------------------------------------------------------------

_MANUAL = (Path(__file__).parents[2] / "INSTALL_AND_USAGE.md").read_text()
_SECTION = _MANUAL.partition("## Transforms")[2].partition("## What the logs say")[0]
_EXAMPLES = re.findall(r"\| `({.*})` \|$", _SECTION, re.MULTILINE)


def test_each_example_of_the_manual_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that stand in the table, and the function that is shown."""
    (module,) = re.findall(r"```python\n(.*?)```", _SECTION, re.DOTALL)
    (tmp_path / "mytransforms.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    specs = [json.loads(example) for example in _EXAMPLES]
    assert len({spec["type"] for spec in specs}) == 9
    chain(*specs).apply(change({"content": {"body": "x"}, "state": "public"}))
    (own_one,) = (spec for spec in specs if spec["type"].startswith("mytransforms."))
    assert document(change({"content": "internal: x"}), own_one) == {"content": "…: x"}


def test_the_example_of_the_variable_is_read_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line can be copied to .env."""
    monkeypatch.delenv("CDC_TRANSFORMS", raising=False)
    (line,) = re.findall(r"^CDC_TRANSFORMS=.*$", _SECTION, re.MULTILINE)
    (tmp_path / ".env").write_text(f"{line}\n")
    transforms = load_settings(tmp_path / ".env").cdc.transforms
    assert [step.name for step in chain(*transforms).steps] == ["filter", "mask"]


def test_a_missing_library_is_named() -> None:
    """Only filters need it, and they say what to install."""
    code = (
        "import sys; sys.modules['jmespath'] = None\n"
        "from data_cdc.transforms import load_chain\n"
        "load_chain([{'type': 'flatten'}], ['articles'])\n"
        "load_chain([{'type': 'filter', 'expression': 'op'}], ['articles'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependency: jmespath is not installed" in done.stderr
