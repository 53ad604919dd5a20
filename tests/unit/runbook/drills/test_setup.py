"""The setup drill's judgement of settings and of health reports written by hand."""

import dataclasses

import pytest

from cachelib import HealthReport, Reason
from runbook.drills import setup
from runbook.drills.setup import STORY_SETTINGS, Setting, judge_health, judge_settings
from runbook.evidence import Verdict

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL

STORY = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory": "536870912", "maxmemory-policy": "noeviction"}


def _settings(**found: str | None) -> tuple[Setting, ...]:
    """The story's settings, some of them found otherwise."""
    changed = {name.replace("_", "-"): value for name, value in found.items()}
    return tuple(Setting(name, wanted, changed.get(name, wanted)) for name, wanted in STORY.items())


class TestSettings:
    def test_the_wanted_settings_are_the_storys(self) -> None:
        assert STORY_SETTINGS == STORY

    def test_a_server_as_the_story_asks_passes_and_shows_each_setting(self) -> None:
        verdict, reason, measured = judge_settings(_settings())
        assert (verdict, reason) == (PASS, "")
        assert [(m.name, m.value, m.threshold) for m in measured] == [(name, value, f"= {value}") for name, value in STORY.items()]

    @pytest.mark.parametrize(
        ("name", "found"),
        [("appendonly", "no"), ("appendfsync", "no"), ("appendfsync", "always"), ("maxmemory", "0"), ("maxmemory-policy", "allkeys-lru")],
    )
    def test_each_setting_that_is_otherwise_fails_and_is_named_with_what_was_found_and_wanted(self, name: str, found: str) -> None:
        verdict, reason, _ = judge_settings(_settings(**{name: found}))
        assert verdict is FAIL
        assert reason == f"{name} is {found}, not {STORY[name]}"

    def test_all_wrong_settings_are_named_together(self) -> None:
        verdict, reason, _ = judge_settings(_settings(appendonly="no", maxmemory="0"))
        assert verdict is FAIL
        assert reason == "appendonly is no, not yes, maxmemory is 0, not 536870912"

    def test_a_setting_that_the_server_does_not_tell_is_inconclusive_and_says_what_to_grant(self) -> None:
        verdict, reason, measured = judge_settings(_settings(appendfsync=None))
        assert verdict is INCONCLUSIVE
        assert reason == "the server does not tell appendfsync: grant +config|get"
        assert measured[1].value is None

    def test_a_wrong_setting_outweighs_one_that_is_not_told(self) -> None:
        assert judge_settings(_settings(appendfsync=None, appendonly="no"))[0] is FAIL


HEALTHY = HealthReport(live=True, ready=True, writable=True, durable=True, reasons=(), detail="", duration_s=0.0042)


def _verdicts(report: HealthReport) -> dict[str, Verdict]:
    return {finding.criterion: finding.verdict for finding in judge_health(report)}


class TestHealth:
    def test_a_healthy_server_passes_and_shows_how_long_the_check_took(self) -> None:
        assert _verdicts(HEALTHY) == {"U-4": PASS, "I-3": PASS}
        measured = judge_health(HEALTHY)[0].measured[0]
        assert (measured.value, measured.unit) == (4.2, "ms")

    def test_a_server_that_does_not_answer_fails_both_and_says_why(self) -> None:
        report = HealthReport(False, False, False, None, (Reason.UNREACHABLE,), "connection refused", 1.0)
        findings = judge_health(report)
        assert {finding.verdict for finding in findings} == {FAIL}
        assert findings[0].reason == "unreachable"
        assert findings[1].reason == "unreachable: connection refused"

    @pytest.mark.parametrize("reason", [Reason.READ_ONLY, Reason.OUT_OF_MEMORY, Reason.DISK_FAILING, Reason.CANARY_LOST])
    def test_a_server_that_only_reads_answers_ping_but_is_not_fit_for_the_application(self, reason: Reason) -> None:
        report = dataclasses.replace(HEALTHY, writable=False, reasons=(reason,), detail="the server's words")
        assert _verdicts(report) == {"U-4": PASS, "I-3": FAIL}
        assert judge_health(report)[1].reason == f"{reason}: the server's words"

    def test_a_server_that_answers_ping_wrongly_fails(self) -> None:
        report = dataclasses.replace(HEALTHY, ready=False, reasons=(Reason.WRONG_REPLY,))
        assert _verdicts(report) == {"U-4": FAIL, "I-3": FAIL}

    def test_a_server_without_persistence_reads_and_writes_all_the_same(self) -> None:
        """Durability is judged by its settings and by the drill, not here."""
        assert _verdicts(dataclasses.replace(HEALTHY, durable=False, reasons=(Reason.AOF_OFF,))) == {"U-4": PASS, "I-3": PASS}


class TestConfiguration:
    def test_this_client_reads_its_configuration_as_the_story_asks(self) -> None:
        findings = setup.check_configuration()
        assert {finding.criterion: (finding.verdict, finding.reason) for finding in findings} == {
            "AC-8": (PASS, ""),
            "U-1": (PASS, ""),
            "U-2": (PASS, ""),
        }

    def test_the_developers_own_environment_has_no_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_PORT", "nonsense")
        monkeypatch.setenv("REDIS_HOST", "not a host")
        assert {finding.verdict for finding in setup.check_configuration()} == {PASS}

    def test_the_error_of_a_wrong_environment_names_every_variable(self) -> None:
        text = setup.wrong_environment()
        assert not [name for name in setup.WRONG_ENVIRONMENT if name not in text]
        assert text.startswith("4 problems")
