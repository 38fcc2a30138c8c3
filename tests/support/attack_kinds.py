"""The kinds of attacks, in the order in which an auditor asks for them, and which tests are of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.attacks import ADVERSARY, ROOT, Attack, attacks_of

__all__ = ["KINDS", "Kind", "attacks_by_kind"]

#: Where tests are; what is in none of these is the adversary's.
_FOLDERS = {
    "mcp": "integrations/mcp/tests",
    "langchain": "integrations/langchain/tests",
    "httpx2": "integrations/httpx2/tests",
    "decision_points": "tests/decision_points",
}


@dataclass(frozen=True)
class Kind:
    """A kind of attack.

    Attributes:
        title: A heading.
        what: What it is about, in a sentence.
        tests: Files, classes and tests, between blanks, as `file.py::Class::test`. A test is of the kind that names
            it most closely.
    """

    title: str
    what: str
    tests: str


def attacks_by_kind() -> dict[Kind, list[Attack]]:
    """All attacks, each of one kind.

    Raises:
        ValueError: A kind has no test or names one that there is not, or a test of the adversary's folder is of none.
    """
    named: dict[str, list[Attack]] = {_whole(name): [] for kind in KINDS for name in kind.tests.split()}
    files = dict.fromkeys(name.partition("::")[0] for name in named)
    files |= dict.fromkeys(str(path.relative_to(ROOT)) for path in sorted((ROOT / ADVERSARY).glob("test_*.py")))
    for attack in (it for file in files for it in attacks_of(file)):
        fitting = [name for name in named if f"{attack.id}::".startswith(f"{name}::")]
        if fitting:
            named[max(fitting, key=len)].append(attack)
        elif attack.file.startswith(ADVERSARY):
            raise ValueError(f"{attack.id} is of no kind: name it in {__name__}")
    for name, attacks in named.items():
        if not attacks:
            raise ValueError(f"there is no test {name}, or other kinds name all of it")
    return {kind: [it for name in kind.tests.split() for it in named[_whole(name)]] for kind in KINDS}


def _whole(name: str) -> str:
    folder, _, rest = name.rpartition("/")
    return f"{_FOLDERS.get(folder, ADVERSARY)}/{rest}"


#: The first thirteen are those that were asked for; the others were found on the way.
KINDS = (
    Kind(
        "A stolen token",
        "A thief has an access token, but not its key; or somebody keeps a token longer than the work that it was for.",
        "test_stolen_credentials.py::TestTokens",
    ),
    Kind(
        "A request or proof, replayed",
        "Somebody on the way has a whole request, with its token and its proof of possession (DPoP, RFC 9449).",
        """
        test_stolen_credentials.py::TestTokens::test_a_request_sent_twice
        test_stolen_credentials.py::TestTokens::test_a_proof_for_another_request
        """,
    ),
    Kind(
        "A ticket: twice, late, by another agent, forged",
        "A ticket hands work to another agent, once.",
        """
        test_stolen_credentials.py::TestTickets
        test_stolen_credentials.py::TestWhatATicketSays
        """,
    ),
    Kind(
        "More through delegation",
        "Who hands work on, or gets it, tries for more scope, audience, tenant, time, calls or depth.",
        """
        test_escalation.py::TestThroughDelegation
        test_stolen_credentials.py::TestWhatATicketSays::test_more_than_its_own_contract
        """,
    ),
    Kind(
        "A child that outlives its parent",
        "Work that was handed on ends with the task that it came from.",
        """
        test_escalation.py::TestThroughDelegation::test_more_time
        test_escalation.py::TestThroughDelegation::test_a_child_that_does_not_want_to_end
        test_after_the_end.py::test_a_child_that_begins_after_its_parent
        test_after_the_end.py::test_a_child_that_begins_while_its_parent_ends
        """,
    ),
    Kind(
        "Another task's context, smuggled",
        "A tool takes a task's context, call or client along: through a thread, a callback, a generator, a copy.",
        "test_smuggling.py",
    ),
    Kind(
        "Names that a prompt supplies",
        "A model, or a caller, makes up resources, tenants and tools: `../`, wildcards, look-alikes of Unicode, floods.",
        """
        test_names.py::TestResources
        test_names.py::TestTerms
        test_names.py::test_nothing_breaks_the_trail
        """,
    ),
    Kind(
        "An approval, used for something else",
        "A person says yes to one call with certain arguments.",
        """
        test_deciders_that_lie.py::TestApprovals
        test_names.py::TestDigests
        """,
    ),
    Kind(
        "A contract, swapped while a task works",
        "The contract is the file that says what an agent may do.",
        "test_deciders_that_lie.py::TestContracts",
    ),
    Kind(
        "A decision point that is down or slow",
        "Where somebody else decides as well (a PDP, by AuthZEN), that one may not answer.",
        """
        test_deciders_that_lie.py::TestDecisionPoints
        decision_points/test_cerbos.py::test_gone_and_back
        """,
    ),
    Kind(
        "A decision point that lies",
        "It answers, and what it says is not quite a yes.",
        """
        test_deciders_that_lie.py::TestDecisionPoints::test_that_lie
        test_deciders_that_lie.py::TestDecisionPoints::test_of_ones_own_that_lie
        decision_points/test_cerbos.py::TestBatches::test_attack_second_question_about_the_same
        """,
    ),
    Kind(
        "The audit file, edited, cut, reordered",
        "Somebody can write to the file that the audit was written to. `spiffe-client audit verify` looks.",
        "test_audit_and_stop.py::TestTrail",
    ),
    Kind(
        "Secrets that come to light",
        "Canaries are let into everything that secrets come near, and then looked for.",
        "test_canary.py",
    ),
    Kind(
        "The moment of the end",
        "A task ends while something of it is in the middle of anything.",
        """
        test_races.py
        test_after_the_end.py
        test_escalation.py::TestThreadsAgainstTheEnd
        test_given_up.py::TestByTheEndOfTheTask
        """,
    ),
    Kind(
        "Calls that are given up",
        "Somebody leaves while a call waits, or leaves it in an odd way.",
        """
        test_given_up.py::TestByTheCaller
        test_escalation.py::test_a_call_left_in_the_wrong_order
        """,
    ),
    Kind(
        "A token that was taken back",
        "A security event says that a token is not good any more (CAEP, over a stream of shared signals).",
        "test_given_up.py::TestBySecurityEvents",
    ),
    Kind(
        "The kill switch",
        "`stop()` ends all tasks of an agent.",
        """
        test_audit_and_stop.py::TestStop
        test_audit_and_stop.py::test_a_program_that_swallows_the_end
        """,
    ),
    Kind(
        "The audit's sink and telemetry, broken",
        "What is told to others must not decide what happens.",
        """
        test_audit_and_stop.py::TestSinks
        test_audit_and_stop.py::test_a_span_processor_that_fails
        """,
    ),
    Kind(
        "Limits and the workflow",
        "Calls are counted, per task and per minute, and may be bound to an order.",
        """
        test_escalation.py::TestBudgets
        test_escalation.py::TestWorkflow
        """,
    ),
    Kind(
        "While somebody decides",
        "What was so when somebody was asked need not be so when the answer comes.",
        "test_escalation.py::TestWhileItWaits",
    ),
    Kind(
        "Text that writes into logs, or fills memory",
        "Line breaks, escapes of a terminal, ids and arguments without end.",
        """
        test_names.py::TestTerms::test_a_purpose_that_writes_into_logs
        test_names.py::TestTerms::test_a_reason_that_writes_into_logs
        test_names.py::TestIdsOfCalls
        test_names.py::TestDigests::test_huge_arguments
        """,
    ),
    Kind(
        "A credential that is sent elsewhere",
        "A redirect, an address that a model chose, another peer: what is for one origin goes nowhere else.",
        """
        test_smuggling.py::TestHandles::test_a_token_for_somebody_else
        httpx2/test_auth.py::test_attack_another_origin
        httpx2/test_auth.py::test_attack_a_redirect_to_another_origin
        httpx2/test_auth.py::test_attack_a_redirect_without_tls
        httpx2/test_clients.py::test_attack_another_peer
        mcp/test_wire.py::test_for_somebody_else
        mcp/test_client.py::TestMessages::test_another_server
        """,
    ),
    Kind(
        "An agent framework in between (LangChain, LangGraph)",
        "A graph that pauses for a person can be run again, edited and put back.",
        """
        langchain/test_approvals.py::TestOnce
        langchain/test_approvals.py::TestElsewhere
        langchain/test_approvals.py::TestBehind::test_other_arguments
        langchain/test_approvals.py::TestRestart
        langchain/test_approvals.py::TestWhileSomebodyLooks
        langchain/test_parts.py::TestArguments::test_a_validator_that_changes_them
        langchain/test_parts.py::TestPauses::test_a_pause_that_spills
        langchain/test_parts.py::TestPauses::test_what_is_no_answer
        """,
    ),
    Kind(
        "Tools of another process (MCP): the client",
        "What a task sends to a server, and what of the answer comes back to a model.",
        """
        mcp/test_wire.py::test_denied
        mcp/test_wire.py::test_outside_of_a_task
        mcp/test_wire.py::test_attack_a_cached_answer
        mcp/test_wire.py::test_what_comes_back
        mcp/test_wire.py::test_a_task_that_ends
        mcp/test_client.py::TestMessages::test_no_message
        mcp/test_client.py::TestCredentials::test_attack_a_credential_in_another_answer
        mcp/test_client.py::TestCredentials::test_of_ones_own
        mcp/test_client.py::TestAnswers::test_escapes
        mcp/test_client.py::TestTaskAuth::test_after_the_call
        """,
    ),
    Kind(
        "Tools of another process (MCP): the server",
        "Which tokens and proofs a server takes, and for which call.",
        """
        mcp/test_wire.py::test_a_session_of_somebody_else
        mcp/test_wire.py::test_what_the_server_refuses
        mcp/test_wire.py::test_a_token_that_was_revoked
        mcp/test_wire.py::test_without_proofs
        mcp/test_server.py::TestVerifier::test_what_is_refused
        mcp/test_server.py::TestVerifier::test_an_algorithm_that_does_not_count
        mcp/test_server.py::TestPossession::test_another_scheme
        mcp/test_server.py::TestPossession::test_once
        mcp/test_server.py::TestPossession::test_attack_a_proof_in_another_worker
        mcp/test_server.py::TestPossession::test_attack_no_memory_of_proofs
        mcp/test_server.py::TestPossession::test_not_without_end
        mcp/test_server.py::TestPossession::test_meant_for_something_else
        mcp/test_server.py::TestPossession::test_malformed
        mcp/test_server.py::TestTools::test_bound_to_something_else
        mcp/test_server.py::TestTools::test_attack_a_bound_token_used_again
        mcp/test_server.py::TestTools::test_attack_a_signature_written_in_another_way
        mcp/test_server.py::TestTools::test_attack_a_bound_token_in_another_worker
        """,
    ),
)
