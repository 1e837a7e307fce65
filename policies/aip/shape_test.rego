package aip.shape_test

import data.aip.fixture_test as fixture
import data.aip.shape

# Not under a fixture: this is the configuration that is served.
test_the_configuration_of_this_bundle_is_whole if shape.config_whole

test_the_tests_configuration_is_whole if {
	config := fixture.config
	shape.config_whole with data.aip.config as config

}
test_the_tests_message_is_in_shape if {
	message := fixture.message
	shape.input_valid with input as message

}
test_nothing_is_out_of_shape if {
	not shape.input_valid with input as {}

}
test_a_number_that_is_a_text_is_out_of_shape if {
	message := object.union(fixture.message, {"reputation": "1"})
	not shape.input_valid with input as message
}

test_labels_that_are_no_list_are_out_of_shape if {
	message := object.union(fixture.message, {"labels": {"0": "secret"}})
	not shape.input_valid with input as message
}

test_a_limit_that_is_a_text_is_no_limit if {
	config := object.union(fixture.config, {"limits": {"rates_per_s_max": {"call": "10"}}})
	not shape.config_whole with data.aip.config as config
}

test_a_table_that_is_missing_stops_everything if {
	config := object.remove(fixture.config, ["sequences"])
	not shape.config_valid with data.aip.config as config
}
