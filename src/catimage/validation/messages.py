"""The problem and the fix of each expectation, in English.

:func:`catimage.validation.failures.describe` fills in the rows and commands.
"""

from __future__ import annotations

from collections.abc import Mapping

from catimage.data.prompts.cleaning import TOO_LONG

_LABELS = "{again}, remove these prompts, or set validate.complete_labels to false"
_SUITES = "Write the suites again with 'python -m catimage.validation.suites'"

ExpectationKey = tuple[str, str, str]
"""A frame, the type of an expectation without ``expect_``, and its columns."""
MESSAGES: Mapping[ExpectationKey, tuple[str, str]] = {
    ("prompts", "column_values_to_be_unique", "prompt_id"): (
        "the same prompt_id in {rows}",
        "{again}",
    ),
    ("prompts", "column_values_to_be_unique", "prompt"): ("the same prompt in {rows}", "{again}"),
    ("prompts", "column_value_lengths_to_be_between", "prompt"): (
        f"the prompt is empty or has {TOO_LONG:,} or more characters in {{rows}}",
        "Shorten or remove these prompts",
    ),
    ("prompts", "column_values_to_be_in_set", "split"): ("unknown splits in {rows}", "{again}"),
    ("prompts", "column_pair_values_to_be_equal", "prompt_id, id_of_text"): (
        "the prompt_id is not the hash of the prompt in {rows}",
        "{again}",
    ),
    ("prompts", "column_pair_values_to_be_equal", "split, split_of_id"): (
        "the split is not that of the hash of the prompt in {rows}",
        "{again}",
    ),
    ("prompts", "column_values_to_be_between", "splits_of_text"): (
        "prompts that differ only in case or punctuation are in different splits, in {rows}",
        "{again}",
    ),
    ("splits", "table_row_count_to_equal", ""): (
        "the suites of this workspace are for other splits than {splits}",
        _SUITES,
    ),
    ("splits", "column_pair_values_a_to_be_greater_than_b", "prompts, prompts_needed"): (
        "too few prompts: {shares} leaves none for {names}",
        "Add prompts: about 100 are needed",
    ),
    ("candidates", "table_row_count_to_be_between", ""): ("the table has no rows", "{again}"),
    ("candidates", "compound_columns_to_be_unique", "candidate, unit"): (
        "several costs of a candidate in the same unit in {rows}",
        "{again}, with one cost per candidate and unit",
    ),
    ("candidates", "column_value_lengths_to_be_between", "candidate"): (
        "the name of the candidate is empty in {rows}",
        "{again}, with names of all candidates",
    ),
    ("candidates", "column_values_to_be_between", "cost"): (
        "the cost is negative or infinite in {rows}",
        "{again}, with costs of 0 or more",
    ),
    ("candidates", "column_values_to_be_between", "steps"): (
        "the number of steps is too small in {rows}",
        "{again}",
    ),
    ("candidates", "column_values_to_be_between", "costs_in_routed_unit"): (
        "no single cost in the unit of the parameter cost_unit in {rows}",
        "Set cost_unit to a unit in which every candidate has one cost",
    ),
    ("scores", "table_row_count_to_be_between", ""): ("the table has no rows", "{again}"),
    ("scores", "compound_columns_to_be_unique", "prompt_id, candidate, seed, metric"): (
        "several scores of the same prompt, candidate, seed and metric in {rows}",
        "{again}",
    ),
    ("scores", "column_values_to_be_in_set", "candidate"): (
        "scores of a candidate that is not in data/candidates.parquet in {rows}",
        "{again}",
    ),
    ("scores", "column_values_to_not_be_null", "split"): (
        "scores of a prompt that is not in data/prompts.parquet in {rows}",
        "{again}",
    ),
    ("scores", "column_values_to_be_between", "value"): ("infinite scores in {rows}", "{again}"),
    ("scores", "column_values_to_be_between", "versions_of_metric"): (
        "scores of several versions of a metric in {rows}",
        "{again}",
    ),
    ("scores", "column_values_to_be_in_set", "metric"): (
        "scores of a metric that is not in label.metrics in {rows}",
        "{again}, or add the metric to label.metrics",
    ),
    ("scores", "column_values_to_be_in_set", "seed"): (
        "scores of a seed that is not in generate.seeds in {rows}",
        "Run 'catimage generate' and 'catimage label' again",
    ),
    ("scores", "column_pair_values_a_to_be_greater_than_b", "value, lowest"): (
        "scores below the range of their metric in {rows}",
        "{again}, or correct the range that the metric declares",
    ),
    ("scores", "column_pair_values_a_to_be_greater_than_b", "highest, value"): (
        "scores above the range of their metric in {rows}",
        "{again}, or correct the range that the metric declares",
    ),
    ("metrics", "column_values_to_be_between", "spread"): (
        "all scores of {names} are equal, so that they cannot be predicted",
        "Remove the metric, or check the images and scores",
    ),
    ("metrics", "column_values_to_be_between", "better_than_reference"): (
        "images have better scores of {names} than the reference image itself",
        "Correct higher_is_better in the declaration of the metric",
    ),
    ("labels", "column_pair_values_a_to_be_greater_than_b", "candidates, candidates_needed"): (
        "scores of some candidates are missing for {rows}",
        _LABELS,
    ),
    ("labels", "column_pair_values_a_to_be_greater_than_b", "scores, scores_needed"): (
        "scores of some seeds are missing for {rows}",
        _LABELS,
    ),
    ("images", "column_values_to_be_between", "blank_share"): (
        "too many images of one colour, such as black images, of the candidates {names}",
        "Repair these generators and run 'catimage generate' again, or raise"
        " validate.max_blank_share",
    ),
    ("images", "column_values_to_be_between", "repeated_share"): (
        "too many equal images of different prompts, of the candidates {names}",
        "Repair these generators and run 'catimage generate' again, or raise"
        " validate.max_blank_share",
    ),
    ("history", "column_values_to_be_between", "shift"): (
        "the scores of the same prompts have moved since the champion was trained, in {rows}",
        "Find the reason; if the change is intended, raise validate.max_shift until the next"
        " promotion",
    ),
    ("history", "column_values_to_be_between", "decline"): (
        "candidates are worse on new prompts than when the champion was trained, compared with the"
        " other candidates, in {rows}",
        "Find the reason; if the change is intended, raise validate.max_decline until the next"
        " promotion",
    ),
    ("similarity", "column_values_to_not_be_null", "max_similarity"): (
        "embeddings are missing for {rows}",
        "{again}",
    ),
    ("similarity", "column_values_to_be_between", "max_similarity"): (
        "prompts that are more similar than sample.max_similarity in {rows}",
        "{again}",
    ),
}
"""The problem and the fix of a failed expectation that is not one of :data:`SCHEMA_EXPECTATIONS`.
"""
SCHEMA_EXPECTATIONS = (
    "table_columns_to_match_ordered_list",
    "column_values_to_be_of_type",
    "column_values_to_not_be_null",
)
"""The types of the expectations of columns of a schema."""
