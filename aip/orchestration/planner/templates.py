"""The methods that come with AIP: shapes of work that need no knowledge of a field. Written as anybody's methods.yaml is.

They name no capability. What is to be done comes from the goal's own words, and who can do it from what the agents say; where
nobody can, there is no plan. A review loop is written out, since a plan is a graph without circles: two rounds, the second
only if the first was not approved.
"""

from __future__ import annotations

from functools import lru_cache

from .method import Method
from .method_file import parse_methods

TEMPLATES = """\
apiVersion: aip/v1
kind: Methods
methods:
  map-reduce: # one capability over each item of a list, another over all that came of it
    goal:
      - "for each {item} in {list}, {map}, then {reduce}"
      - "for each {item} in {list}, {map}, and then {reduce}"
      - "for each {item} in {list}, {map} and then {reduce}"
      - "for each {item} of {list}, {map}, then {reduce}"
      - "for each {item} in {list} {map} then {reduce}"
      - "for every {item} in {list}, {map}, then {reduce}"
    inputs: {"{list}": {type: array}}
    steps:
      map: {find: "{map}", for_each: "${{ inputs.{list} }}"}
      reduce: {find: "{reduce}"}
    output: reduce

  review-loop: # make, review, revise; at most two rounds
    goal:
      - "{make}, review and revise it"
      - "{make}, review it and revise it"
      - "{make}, then review and revise it"
      - "{make} and review and revise it"
      - "{make}, review and improve it"
      - "{make} until a reviewer approves"
    steps:
      make: {goal: "{make}"}
      review: {find: "review", gives: &verdict {type: object, properties: {approved: {type: boolean}}, required: [approved]}}
      revise: {find: "revise", if: "${{ !tasks.review.output.approved }}"}
      recheck: {find: "review", gives: *verdict}
      rework: {find: "revise", if: "${{ !tasks.recheck.output.approved }}"}
    output: >-
      ${{ tasks.rework.status == 'succeeded' ? tasks.rework.output :
      tasks.revise.status == 'succeeded' ? tasks.revise.output : tasks.make.output }}

  debate: # each side argues by itself; judges who saw all sides vote
    goal:
      - "debate {question}"
      - "decide by debate {question}"
      - "argue both sides of {question} and vote"
      - "debate {question} and vote"
    steps:
      argue: {find: "argue", for_each: [for, against], with: {"?": "{question}"}}
      judge:
        find: "judge"
        gives: {type: object, properties: {vote: {}}, required: [vote]}
        assign: {mode: vote, voters: 3, quorum: 2}
        with: {"?": "{question}"}
    output: judge

  pipeline: # one thing after the other, each fed by the one before
    goal:
      - "{first}, and then {rest}"
      - "{first}, then {rest}"
      - "{first} and then {rest}"
      - "{first} then {rest}"
      - "{first}; {rest}"
      - "{first}, and {rest}"
      - "{first}, {rest}"
      - "{first} and {rest}"
    steps:
      first: {goal: "{first}"}
      rest: {goal: "{rest}"}
    output: rest
"""


@lru_cache(maxsize=1)
def templates() -> tuple[Method, ...]:
    """The shipped methods, by weight of the shape they ask for."""
    return tuple(parse_methods(TEMPLATES.encode(), "templates", shipped=True))
