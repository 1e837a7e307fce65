package aip.match_test

import data.aip.match

test_a_star_is_every_name if match.any_of("billing", ["*"])

test_a_name_is_itself if match.any_of("billing", ["mail", "billing"])

test_a_prefix_is_every_name_below_it if match.any_of("billing.desk", ["billing.*"])

test_a_prefix_is_not_the_name_itself if not match.any_of("billing", ["billing.*"])

test_a_prefix_ends_at_its_dot if not match.any_of("billings.desk", ["billing.*"])

test_a_star_inside_a_name_is_no_pattern if not match.any_of("billing", ["bil*"])

test_no_pattern_is_no_name if not match.any_of("billing", [])
