"""The clauses that a compliance report speaks of, paraphrased, each with what bears on it and what the log cannot show.

ai-act     Regulation (EU) 2024/1689, Articles 12, 14, 19 and 26(6). By the Digital Omnibus of 2026 the duties for systems of
           Annex III apply from 2 December 2027, those of Annex I from 2 August 2028.
soc2       AICPA Trust Services Criteria 2017 (points of focus 2022), CC7.1 to CC7.4
iso42001   ISO/IEC 42001:2023, Annex A, A.6.2.8
"""

from __future__ import annotations

from .compliance import (
    Clause,
    Framework,
    changes,
    deciding,
    integrity,
    keeping,
    operation,
    recording,
    responding,
    situations,
    stopping,
)

VERIFY = "aip audit verify --trust KEY --checkpoint FILE"
EXPORT = (
    "aip audit export --format jsonl --since … --until … --out FILE; aip audit verify-export FILE --trust KEY"
)

AI_ACT = Framework(
    "ai-act",
    "EU AI Act",
    "Regulation (EU) 2024/1689, Articles 12, 14, 19 and 26(6), paraphrased",
    "By the Digital Omnibus of 2026 these duties apply to high-risk systems of Annex III from 2 December 2027 and to those of "
    "Annex I from 2 August 2028, as reported when this version was made: check the Official Journal.",
    (
        Clause(
            "Article 12(1): automatic recording of events over the lifetime",
            "A high-risk system technically allows for the automatic recording of events.",
            lambda basis: recording(basis) + integrity(basis),
            (VERIFY, EXPORT),
            (
                "What agents' own code does without calling the platform is not in the log.",
                "Ordinary messages are counted and bound by a Merkle root; their content is not recorded.",
                "That nothing was recorded can mean that nothing happened or that the platform was off.",
            ),
        ),
        Clause(
            "Article 12(2)(a): situations of risk, and substantial modifications",
            "Logging makes events identifiable that may result in risk, or that are a substantial modification.",
            lambda basis: situations(basis) + changes(basis),
            ("aip audit query --refused --since …", "aip audit query --kind policy --since …"),
            (
                "Which of these events is a risk in the sense of Article 79(1) is a judgement the log does not make.",
                "A change of an agent's model or prompt shows only as a new code digest, where it is part of the code.",
            ),
        ),
        Clause(
            "Article 12(2)(b) and (c): monitoring after placing on the market, and of operation",
            "Logging facilitates post-market monitoring (Article 72) and the deployer's monitoring (Article 26(5)).",
            operation,
            ("aip audit query --run RUN", "aip run trace RUN"),
            (
                "Quality, accuracy and bias of what agents answer are not measured.",
                "The monitoring plan itself is a document outside this log.",
            ),
        ),
        Clause(
            "Article 14(4)(d): deciding not to use, overriding, reversing",
            "Persons who oversee the system can decide not to use it, and disregard, override or reverse its output.",
            deciding,
            ("aip audit query --kind run.decide --since …", "aip audit query --kind gate --since …"),
            (
                "That whoever decided understood it, and did not merely confirm (Article 14(4)(a) and (b)).",
                "Who the person is beyond an account's name.",
                "Output that was overridden outside the platform.",
            ),
        ),
        Clause(
            "Article 14(4)(e): the stop button",
            "Persons can interrupt the system by a stop button or the like, so that it halts in a safe state.",
            stopping,
            ("aip audit query --kind kill --since …", "aip kill drill"),
            (
                "That the state in which it halted was safe for what it acted upon.",
                "That a stop was possible at times when none was ordered, except by a drill.",
                "Code that computes without calling the platform goes on until its process ends.",
            ),
        ),
        Clause(
            "Articles 19(1) and 26(6): keeping logs for at least six months",
            "Providers and deployers keep the logs under their control for a fitting period, at least six months.",
            lambda basis: keeping(basis) + integrity(basis)[1:2],
            ("aip audit verify", "aip audit query --until … --limit 1"),
            (
                "That the log will be kept from now on: retention is a setting, backups are yours.",
                "Other laws may ask for longer, or, for personal data, for shorter.",
            ),
        ),
    ),
)

SOC2 = Framework(
    "soc2",
    "SOC 2",
    "AICPA Trust Services Criteria 2017 with points of focus of 2022, CC7.1 to CC7.4, paraphrased",
    "A report of type 2 covers a period of operation: choose the same period here.",
    (
        Clause(
            "CC7.1: detecting changes of configuration",
            "Changes that introduce vulnerabilities are detected by monitoring.",
            changes,
            ("aip audit query --kind policy --since …",),
            ("Changes of hosts, networks, libraries and of Ray itself are not in this log.",),
        ),
        Clause(
            "CC7.2: monitoring for anomalies",
            "Components and their operation are monitored for anomalies that indicate malicious acts, disasters and errors.",
            lambda basis: recording(basis) + situations(basis),
            (VERIFY, EXPORT),
            (
                "That somebody looked: the log shows events, not that they were reviewed.",
                "Anomalies within what policies allow.",
            ),
        ),
        Clause(
            "CC7.3: evaluating security events",
            "Security events are evaluated as to whether they are failures to meet objectives.",
            lambda basis: situations(basis) + deciding(basis)[:1],
            ("aip audit query --refused --since …",),
            ("The evaluation itself, its criteria and its outcome.",),
        ),
        Clause(
            "CC7.4: responding to incidents",
            "Identified incidents are answered by a defined programme: contained, remedied, communicated.",
            responding,
            ("aip audit query --kind kill --since …", "aip audit trace RUN"),
            (
                "Communication to those concerned, remediation, and lessons learnt.",
                "That every incident led to a stop order or an act in this log.",
            ),
        ),
    ),
)

ISO42001 = Framework(
    "iso42001",
    "ISO/IEC 42001",
    "ISO/IEC 42001:2023, Annex A, control A.6.2.8 (recording of event logs), paraphrased",
    "The organization decides in which phases of the life cycle logs are kept, at least while the system is in use.",
    (
        Clause(
            "A.6.2.8: AI system recording of event logs",
            "The phases in which event logs are enabled are determined, at the minimum when the system is in use.",
            lambda basis: recording(basis) + operation(basis) + keeping(basis) + integrity(basis),
            (VERIFY, EXPORT),
            (
                "Phases before use (design, training, testing) unless they ran on this platform.",
                "The decision on phases and its reasons, which belong into the management system's documents.",
            ),
        ),
    ),
)

FRAMEWORKS = {one.key: one for one in (AI_ACT, SOC2, ISO42001)}
