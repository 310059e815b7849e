"""The page shows all operations and problems, as text, and loads nothing."""

from __future__ import annotations

from common.serving.docs_page import docs_page
from common.serving.problems import PROBLEMS

SCHEMA = {
    "info": {"title": "T <b>", "version": "1", "description": "D & d"},
    "paths": {
        "/x/{name}": {
            "post": {
                "summary": "Does <i>it</i>",
                "security": [{}],
                "parameters": [{"name": "name", "in": "path", "required": True}],
                "requestBody": {"content": {"application/json": {}}},
            }
        }
    },
}


def test_everything_is_shown_as_text():
    page = docs_page(SCHEMA)
    assert "POST /x/{name}" in page
    assert "Does &lt;i&gt;it&lt;/i&gt; (needs a key)" in page
    assert "application/json" in page
    assert "T &lt;b&gt;" in page
    assert "<b>" not in page


def test_every_kind_of_problem_has_the_place_that_answers_point_to():
    page = docs_page(SCHEMA)
    for problem in PROBLEMS.values():
        assert f'id="{problem.kind.partition("#")[2]}"' in page
