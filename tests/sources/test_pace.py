"""When to ask again, and when a denial is final."""

import pytest

from spiffe_client.sources._pace import Denial, Pace


class Doubling:
    """A backoff without chance."""

    def delay(self, attempt: int) -> float:
        return float(2**attempt)


class TestPace:
    def test_a_stream_that_ended_well_is_reopened_at_once(self) -> None:
        """Workload API §4.3: when either side closes the stream, reconnect at once."""
        pace = Pace(Doubling())

        assert [0.0, 0.0] == [pace.ended(60), pace.ended(60)]

    def test_accepting_and_closing_is_never_a_tight_loop(self) -> None:
        """Workload Endpoint §6: a server that answers and closes, over and over, meets the backoff."""
        pace = Pace(Doubling())

        assert [0.0, 2.0, 4.0, 8.0] == [pace.ended(0.01) for _ in range(4)]

    def test_failures_back_off(self) -> None:
        """Each failure in a row waits longer."""
        pace = Pace(Doubling())

        assert [2.0, 4.0, 8.0] == [pace.failed(0.01) for _ in range(3)]

    def test_years_of_failures_cost_no_more(self) -> None:
        """The attempt number that a backoff is asked for stays small."""
        pace = Pace(Doubling())

        assert 2.0**30 == max(pace.failed(0.01) for _ in range(10_000))

    def test_a_steady_stream_starts_the_count_anew(self) -> None:
        """What failed before a stream that worked does not slow down the next attempt."""
        pace = Pace(Doubling())
        for _ in range(10):
            pace.failed(0)

        assert 2.0 == pace.failed(60)
        assert 0.0 == pace.ended(60)


class TestDenial:
    def test_one_denial_is_asked_again_at_once(self) -> None:
        """Design decision 7: PermissionDenied is confirmed by asking again at once."""
        assert None is Denial(3.0).heard(100.0)

    def test_a_confirmed_denial_is_final_after_the_grace(self) -> None:
        """The grace counts from the first denial, however often it is repeated."""
        denial = Denial(3.0)
        denial.heard(100.0)

        assert [103.0, 103.0] == [denial.heard(100.1), denial.heard(102.0)]

    def test_a_lone_denial_counts_for_nothing(self) -> None:
        """A denial from an agent that then went away is not confirmed an hour later."""
        denial = Denial(3.0)
        denial.heard(100.0)
        denial.doubted()

        assert None is denial.heard(3700.0)

    def test_an_outage_does_not_undo_a_confirmed_denial(self) -> None:
        """Who was denied twice does not go on because the agent dies."""
        denial = Denial(3.0)
        denial.heard(100.0)
        denial.heard(100.1)
        denial.doubted()

        assert 103.0 == denial.heard(101.0)

    def test_issued_again_is_a_new_start(self) -> None:
        """After the identity came back, the next denial is doubted again."""
        denial = Denial(3.0)
        denial.heard(100.0)
        denial.heard(100.1)
        denial.lifted()

        assert None is denial.heard(200.0)


@pytest.mark.parametrize("grace", [0.0])
def test_no_grace_is_at_once(grace: float) -> None:
    """With a grace of zero the confirmed denial is final in the past, that is now."""
    denial = Denial(grace)
    denial.heard(5.0)

    assert 5.0 == denial.heard(5.1)
