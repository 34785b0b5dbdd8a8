"""Every exception class that the SDKs have is one that somebody has looked at.

A class that an update brings fails here until it is in an adapter's table, or below with its reason.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest

from src.errors import PROVIDER_ERRORS, TimedOut, Unreachable
from src.providers import anthropic_adapter, gemini_adapter, gemini_reading, openai_adapter, transport
from src.providers.error_classes import STATUSES
from src.providers.failures import CUT_OFF, NEVER_SENT, NO_ANSWER, UNREADABLE, by_class

# Codes of Anthropic's errors whose status says enough. They belong to its administration, files, threads,
# compaction, tools and encryption, none of which is called here.
ORDINARY_CODES = """
    already_member api_key_scope_missing approval_required authorization_check_unavailable
    available_tools_limit_exceeded bundle_attachment_not_supported bundle_on_call
    cannot_invite_emails_with_unverified_domains cannot_remove_last_member cannot_sign_out_managed_member
    cannot_sign_out_membership_admin cannot_sign_out_owner cannot_sign_out_primary_owner
    cannot_sign_out_privileged_member cannot_sign_out_self change_outcome_unknown
    claude_code_key_creator_not_member claude_code_version_too_old claude_tag_writes_not_enabled
    cmek_context_unavailable cmek_feature_unsupported cmek_key_disabled cmek_key_network_blocked
    cmek_key_unreachable cmek_not_approved compaction_block_ambiguous compaction_block_misplaced
    compaction_content_mismatch compaction_incomplete_turn compaction_nothing_to_summarize
    compaction_signature_invalid compaction_too_many_tool_references compaction_tool_changes_mismatch
    compaction_unavailable compliance_configuration_restricted concurrent_membership_change
    email_domain_not_allowed environment_archived environment_create_disabled environment_not_found
    environment_update_disabled external_key_changed external_key_in_workspace_policy external_key_not_found
    external_key_provider_mismatch external_key_validation_failed external_key_validation_timed_out
    external_storage_in_use external_storage_in_workspace_policy external_storage_not_available file_expired
    file_not_downloadable gcp_project_controlled_by_another_organization gcp_project_not_verified
    grant_required heartbeat_precondition_failed human_review_not_available
    human_review_on_with_external_storage image_dimensions_too_large invalid_config_type_change
    invalid_metadata invalid_storage_arn invite_already_exists key_profile_mismatch
    org_api_key_limit_exceeded org_member_limit_exceeded organization_level_scoped_api_key_required
    organization_not_eligible organization_not_enrolled_in_beta organization_type_not_supported
    parent_organization_required plugin_name_taken provider_not_allowed rbac_group_grants_owner_access
    rbac_group_managed_settings_not_found rbac_group_not_found rbac_group_order_limit_exceeded
    rbac_group_owner_access_unconfirmed rbac_role_not_found region_not_supported registration_pending
    request_body_encoding_invalid request_body_encoding_unsupported request_body_timeout
    request_body_too_large_after_decoding sandbox_egress_restricted scan_failed scan_pending
    settings_document_limit_exceeded settings_history_limit_exceeded skill_name_taken
    skill_read_blocked_undecryptable slack_channel_set_up_environment_not_found
    slack_channel_set_up_settings_conflict slack_channel_set_up_settings_refused
    spend_limits_admin_api_writes_not_enabled storage_already_registered storage_attach_limit_reached
    storage_attached_during_archive storage_changed_concurrently storage_in_use storage_not_approved
    storage_not_attachable storage_profile_mismatch storage_profile_still_required storage_quota_exceeded
    storage_verification_failed thread_already_continued thread_continue_in_flight
    thread_fingerprint_mismatch thread_not_found thread_unsupported_request tool_name_conflict
    tool_reference_unresolved transcripts_storage_required unsupported_charset unsupported_region
    user_profile_not_found user_profile_required workspace_api_key_limit_exceeded
    workspace_changed_concurrently workspace_created_incomplete workspace_human_review_disabled
    workspace_member_limit_exceeded workspace_policy_violation
"""
_CLASS = re.compile(r"^class (\w+)\(([^)]*)\)", re.MULTILINE)


def subclasses(cls: type[BaseException]) -> Iterator[type[BaseException]]:
    for one in cls.__subclasses__():
        yield one
        yield from subclasses(one)


def of_package(base: type[BaseException], package: ModuleType) -> set[type[BaseException]]:
    """All subclasses that the package defines, found in its source: only their modules are imported."""
    root = Path(str(package.__file__)).parent
    bases: dict[str, set[str]] = {}
    modules: dict[str, str] = {}
    for path in root.rglob("*.py"):
        for name, parents in _CLASS.findall(path.read_text(encoding="utf-8")):
            bases.setdefault(name, set()).update(re.findall(r"\w+", parents))
            modules[name] = ".".join((package.__name__, *path.relative_to(root).with_suffix("").parts))
    found = {base.__name__}
    while more := {name for name, parents in bases.items() if parents & found} - found:
        found |= more
    for name in found:
        importlib.import_module(modules[name].removesuffix(".__init__"))
    classes = {base, *(one for one in subclasses(base) if one.__module__.split(".")[0] == package.__name__)}
    assert found == {cls.__name__ for cls in classes}
    return classes


def status_of(cls: type[BaseException]) -> int | None:
    status = getattr(cls, "status_code", None)
    return status if isinstance(status, int) else None


@pytest.fixture(scope="module")
def anthropic_classes() -> set[type[BaseException]]:
    import anthropic

    return of_package(anthropic.AnthropicError, anthropic)


@pytest.fixture(scope="module")
def openai_classes() -> set[type[BaseException]]:
    import openai

    return of_package(openai.OpenAIError, openai)


def unknown(classes: set[type[BaseException]], table: Any, status_error: type[BaseException]) -> list[str]:
    """Classes without an answer that the table lacks by name, and unknown statuses."""
    found = []
    for cls in classes:
        if issubclass(cls, status_error) and cls is not status_error:
            status = status_of(cls)
            # without a status of its own it is one of the 500s that have no class
            if status is not None and status not in STATUSES:
                found.append(f"{cls.__name__}: {status}")
        elif cls.__name__ not in table:
            found.append(cls.__name__)
    return found


def test_the_table_knows_every_class_of_anthropic(anthropic_classes: set[type[BaseException]]) -> None:
    import anthropic

    assert len(anthropic_classes) > 30
    assert unknown(anthropic_classes, anthropic_adapter.CLASSES, anthropic.APIStatusError) == []


def test_the_table_knows_every_class_of_openai(openai_classes: set[type[BaseException]]) -> None:
    import openai

    assert len(openai_classes) > 20
    assert unknown(openai_classes, openai_adapter.CLASSES, openai.APIStatusError) == []


def test_somebody_has_looked_at_every_error_code_of_anthropic() -> None:
    from anthropic._error_classes import ERROR_CLASSES

    codes = {code for _, code in ERROR_CLASSES if code is not None}
    assert codes - set(anthropic_adapter.CODES) - set(ORDINARY_CODES.split()) == set()
    assert {status for status, _ in ERROR_CLASSES} <= set(STATUSES)
    assert not set(ORDINARY_CODES.split()) & set(anthropic_adapter.CODES)


def test_somebody_has_looked_at_every_error_type_and_stop_reason_of_anthropic() -> None:
    from anthropic.types import StopReason
    from anthropic.types.shared import ErrorType

    by_status = {"invalid_request_error", "not_found_error", "api_error", "timeout_error", "conflict_error"}
    elsewhere = {"memory_precondition_failed_error", "memory_path_conflict_error"}  # of the memory tool
    assert set(ErrorType.__args__) <= set(anthropic_adapter.CODES) | by_status | elsewhere
    assert set(StopReason.__args__) - set(anthropic_adapter.FINISH) == {"pause_turn"}  # other: no tools here


def test_somebody_has_looked_at_every_finish_reason_of_openai() -> None:
    from openai.types.chat.chat_completion import Choice

    assert set(Choice.model_fields["finish_reason"].annotation.__args__) <= set(openai_adapter.FINISH)


def test_the_table_knows_every_class_of_googles_packages() -> None:
    gemini_adapter._import_quietly()
    from google.generativeai import types
    from google.protobuf.json_format import ParseError

    own = [cls for _, cls in inspect.getmembers(types, inspect.isclass) if issubclass(cls, Exception)]
    assert len(own) >= 4
    assert [cls.__name__ for cls in (*own, ParseError) if cls.__name__ not in gemini_reading.CLASSES] == []


def test_somebody_has_looked_at_every_finish_reason_of_gemini() -> None:
    gemini_adapter._import_quietly()
    from google.generativeai.protos import Candidate

    assert {reason.name for reason in Candidate.FinishReason} <= set(gemini_reading.FINISH)


def test_the_table_knows_every_class_of_httpx2() -> None:
    ours = [row[0] for row in transport._HTTPX2]
    for cls in {*subclasses(httpx2.HTTPError), *subclasses(httpx2.StreamError), httpx2.InvalidURL}:
        assert issubclass(cls, tuple(ours)), cls


def test_a_subclass_stands_before_its_base_in_every_table() -> None:
    for table in (transport._AIOHTTP, transport._HTTPX2, transport._SYSTEM):
        classes = [row[0] for row in table]
        for i, cls in enumerate(classes):
            assert not [later for later in classes[i + 1 :] if issubclass(later, cls)], cls


def test_every_verdict_is_one_of_our_classes() -> None:
    for adapter in (anthropic_adapter, openai_adapter, gemini_reading):
        assert set(adapter.CODES.values()) <= set(PROVIDER_ERRORS.values())
        for cls, sent in adapter.CLASSES.values():
            assert cls in PROVIDER_ERRORS.values()
            assert isinstance(sent, bool)


def raised(error: Exception, cause: BaseException | None = None) -> Exception:
    error.__cause__ = cause
    return error


REQUEST = httpx2.Request("POST", "http://127.0.0.1/")


def test_over_aiohttp_the_cause_separates_a_refused_connection_from_a_timeout() -> None:
    import aiohttp
    import openai

    def wrapped(cause: Exception) -> Exception:
        return raised(openai.APITimeoutError(REQUEST), raised(httpx2.ConnectTimeout("x"), cause))

    cases = [
        (aiohttp.ServerDisconnectedError(), CUT_OFF),
        (aiohttp.ClientOSError(104, "reset"), CUT_OFF),
        (aiohttp.ClientPayloadError(), CUT_OFF),
        (aiohttp.ConnectionTimeoutError(), NEVER_SENT),
        (aiohttp.SocketTimeoutError(), NO_ANSWER),
    ]
    for cause, verdict in cases:
        found = transport.verdict_on(wrapped(cause))
        assert found is not None
        assert found == (verdict, cause)


@pytest.mark.parametrize(
    ("cause", "verdict"),
    [
        (httpx2.ConnectError("x"), NEVER_SENT),
        (httpx2.ReadTimeout("x"), NO_ANSWER),
        (httpx2.WriteError("x"), CUT_OFF),
        (httpx2.RemoteProtocolError("x"), CUT_OFF),
        (httpx2.DecodingError("x"), UNREADABLE),
        (httpx2.InvalidURL("x"), NEVER_SENT),
        (TimeoutError(), NO_ANSWER),
        (ConnectionResetError(), CUT_OFF),
    ],
)
def test_without_aiohttp_httpx2_and_the_system_are_heard(cause: Exception, verdict: Any) -> None:
    import anthropic

    found = transport.verdict_on(raised(anthropic.APIConnectionError(request=REQUEST), cause))
    assert found == (verdict, cause)


def test_without_a_cause_the_sdks_class_counts() -> None:
    import anthropic
    import openai

    assert transport.verdict_on(anthropic.APITimeoutError(REQUEST)) is None
    assert by_class(anthropic.APITimeoutError(REQUEST), anthropic_adapter.CLASSES) == (TimedOut, True)
    assert by_class(openai.APIConnectionError(request=REQUEST), openai_adapter.CLASSES) == (Unreachable, True)
    assert by_class(KeyError("unheard of"), openai_adapter.CLASSES) == UNREADABLE
