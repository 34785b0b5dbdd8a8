"""The table of provider APIs: every row is complete, and nothing outside it names an API."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pydantic import SecretStr

from src.config import ProviderAccess
from src.providers.api_formats import API_FORMATS
from src.providers.base import ProviderAdapter
from src.providers.factory import build_adapter
from src.providers.schemas import Form
from src.routing.limits.token_bucket import PLACE_IN_NEED
from src.settings import LimitSettings, ProviderConfig, TierModels

SRC = Path(__file__).resolve().parents[2] / "src"
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def access_to(api: str) -> ProviderAccess:
    models = TierModels(economy="m", standard="m", premium="m")
    config = ProviderConfig(api_format=api, weight=1.0, base_url="http://127.0.0.1:9", models=models)
    return ProviderAccess("mine", config, config.base_url, SecretStr("key"), "")


@pytest.mark.parametrize("name", API_FORMATS)
def test_a_row_names_an_adapter_a_form_and_the_limits_that_settings_know(name: str) -> None:
    api = API_FORMATS[name]
    assert isinstance(build_adapter(access_to(name), 1), ProviderAdapter)
    form = api.schema_form(PERSON)
    assert isinstance(form, Form) and (form.schema or not form.complete)
    assert set(api.limits.counted) <= set(LimitSettings.model_fields)
    assert set(api.limits.counted.values()) <= set(PLACE_IN_NEED)
    assert api.warm_up_s > 0


def test_no_other_module_decides_by_the_name_of_an_api() -> None:
    """The simulator is a product of its own, with formats of its own."""
    found = [
        f"{path.relative_to(SRC)}:{node.lineno}"
        for path in sorted(SRC.rglob("*.py"))
        if "simulator" not in path.parts and path.name != "api_formats.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare | ast.Dict)
        for name in ast.iter_child_nodes(node)
        if isinstance(name, ast.Constant) and name.value in API_FORMATS
    ]
    assert not found
