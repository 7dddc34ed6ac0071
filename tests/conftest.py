"""What all tests share: strict promotion, and compiled programs kept from run to run.

Set in the environment as well, for the processes that tests start. Programs are compiled with few optimisations, which
is several times faster for the tiny models here; STRATA_TESTS_OPTIMIZED=1 compiles them as users do.
"""

import os
import tempfile

OPTIONS = {
    "jax_compilation_cache_dir": os.path.join(tempfile.gettempdir(), "strata-tests", "xla"),
    "jax_persistent_cache_min_compile_time_secs": 0.1,
    "jax_persistent_cache_min_entry_size_bytes": 0,
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
}
os.environ.update({name.upper(): str(value) for name, value in OPTIONS.items()})
if not os.environ.get("STRATA_TESTS_OPTIMIZED"):
    fast = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fast}"

import jax  # noqa: E402
import pytest  # noqa: E402

for name, value in OPTIONS.items():
    jax.config.update(name, value)

SLOW = (
    "arch/blocks/test_at.py::test_in_a_pattern_some_layers_have_one",
    "arch/blocks/test_at.py::test_scanned_unrolled_and_rematerialised_alike[unroll",
    "arch/blocks/test_sublayers.py::test_admin_counts_the_sublayers",
    "arch/blocks/test_sublayers.py::test_caches_are_under_the_names_and_decoding_is_the_full_forward[mi",
    "arch/blocks/test_sublayers.py::test_caches_are_under_the_names_and_decoding_is_the_full_forward[pa",
    "arch/blocks/test_sublayers.py::test_caches_are_under_the_names_and_decoding_is_the_full_forward[po",
    "arch/blocks/test_sublayers.py::test_sublayers_drop_different_places_outside_and_inside[mi",
    "arch/blocks/test_sublayers.py::test_sublayers_drop_different_places_outside_and_inside[pa",
    "arch/blocks/test_sublayers.py::test_sublayers_drop_different_places_outside_and_inside[po",
    "arch/bottlenecks/test_key_value.py::test_segments_are_cut",
    "arch/bottlenecks/test_prototypes.py::test_distances_terms_and_gradients",
    "arch/decode/test_apart.py::test_steps_are_those_of_stacked_caches[a",
    "arch/decode/test_beam.py::test_pruning_by_much",
    "arch/decode/test_beam.py::test_sources_are_searched_side_by_side",
    "arch/decode/test_strategies.py::test_beams_that_end",
    "arch/decode/test_strategies.py::test_wrong_guesses_change_nothing[full",
    "arch/decode/test_strategies.py::test_wrong_guesses_change_nothing[recurrent",
    "arch/layers/mixers/test_kinds.py::test_padding_has_no_influence[performer",
    "arch/layers/mixers/test_kinds.py::test_padding_has_no_influence[sinkhorn",
    "arch/layers/test_blockwise.py::test_the_same_function_and_gradients_as_the_plain_form[4-2-None-True-Causal-one",
    "arch/layers/test_initializers.py::test_depth_scaled_in_a_stack",
    "arch/layers/test_initializers.py::test_zero_output_makes_blocks_identities[parallel",
    "arch/layers/test_int8.py::test_a_network_trained_in_bounds",
    "arch/layers/test_int8.py::test_the_quantised_network_decodes",
    "arch/layers/test_reseeded.py::test_every_weight_of_a_decoder_is_another_one",
    "arch/models/test_decoder.py::test_cached_decoding_is_the_full_forward[alibi-SlidingWindow",
    "arch/models/test_decoder.py::test_cached_decoding_is_the_full_forward[alibi_model",
    "arch/models/test_decoder.py::test_cached_decoding_is_the_full_forward[learned-SlidingWindow",
    "arch/models/test_decoder.py::test_cached_decoding_is_the_full_forward[none",
    "arch/models/test_decoder.py::test_cached_decoding_is_the_full_forward[rotary_partial",
    "arch/models/test_decoder.py::test_cached_decoding_is_the_full_forward[sinusoidal",
    "arch/models/test_decoder.py::test_cached_decoding_is_the_full_forward[t5-SlidingWindow",
    "arch/models/test_decoder.py::test_cached_decoding_is_the_full_forward[t5_model-SlidingWindow",
    "arch/models/test_modernbert.py",
    "arch/models/test_t5gemma.py",
    "arch/stacks/test_parallel.py::test_depth_is_the_group[unroll",
    "arch/stacks/test_patterns.py::test_a_split_of_norms_is_mix_norm",
    "arch/stacks/test_patterns.py::test_cached_decoding_is_the_full_forward[unroll",
    "arch/stacks/test_patterns.py::test_every_form_is_the_loop_by_hand[between-scan-full",
    "arch/stacks/test_patterns.py::test_every_form_is_the_loop_by_hand[between-unroll",
    "arch/stacks/test_patterns.py::test_every_form_is_the_loop_by_hand[depth",
    "arch/stacks/test_patterns.py::test_every_form_is_the_loop_by_hand[norms",
    "arch/stacks/test_patterns.py::test_every_form_is_the_loop_by_hand[parts",
    "arch/stacks/test_patterns.py::test_every_form_is_the_loop_by_hand[widths",
    "arch/stacks/test_patterns.py::test_every_form_is_the_loop_by_hand[windows-unroll",
    "arch/stacks/test_patterns.py::test_gates_and_taps_belong_to_the_layer[unroll",
    "arch/stacks/test_patterns.py::test_layers_that_are_kept_keep_their_block_and_index[unroll",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[admin",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[deep",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[layer_scale",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[mix",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[parallel",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[post",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[sandwich",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[scaled_norm",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[scaled_residual",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[scaled_sublayer",
    "arch/stacks/test_sequential.py::test_every_form_is_one_function[skip_init",
    "arch/stacks/test_sequential.py::test_rematerialised_dropout_drops",
    "arch/test_cost.py::test_a_step_is_three_forwards[gated",
    "arch/test_cost.py::test_a_step_is_three_forwards[grouped",
    "arch/test_cost.py::test_a_step_is_three_forwards[parallel",
    "arch/test_cost.py::test_a_step_is_three_forwards[tied",
    "arch/test_cost.py::test_a_step_is_three_forwards[wide heads",
    "experiments/config/test_golden.py::test_experiments_are_as_their_golden_files_say[bits_and_recovery-]",
    "experiments/config/test_golden.py::test_experiments_are_as_their_golden_files_say[bits_and_recovery-cpu",
    "experiments/config/test_golden.py::test_experiments_are_as_their_golden_files_say[deep_vs_wide-]",
    "experiments/config/test_golden.py::test_experiments_are_as_their_golden_files_say[deep_vs_wide-flops]",
    "experiments/config/test_golden.py::test_experiments_are_as_their_golden_files_say[return_of_the_encoder",
    "experiments/config/test_golden.py::test_experiments_are_as_their_golden_files_say[wide_attention-]",
    "experiments/hf/test_own.py::test_a_training_exports_and_the_last",
    "experiments/hf/test_own.py::test_other_kinds_of_models_come_back",
    "experiments/study/test_diagnostics.py::test_a_pattern_has_the_panel_of_its_layers",
    "experiments/study/test_diagnostics.py::test_blocks_without_a_feed_forward_or_a_middle",
    "experiments/study/test_diagnostics.py::test_what_only_some_layers_have_is_left_out",
    "experiments/study/test_engine.py::test_a_killed_study_ends_as_one_that_was_not[0-1]",
    "experiments/study/test_engine.py::test_a_killed_study_ends_as_one_that_was_not[0-4]",
    "experiments/study/test_engine.py::test_a_killed_study_ends_as_one_that_was_not[3-4]",
    "experiments/study/test_engine.py::test_a_metric_that_nothing_measures",
    "experiments/study/test_engine.py::test_a_rate_that_diverges_is_not_chosen",
    "experiments/study/test_engine.py::test_a_study_killed_between_a_group_and_its_cells",
    "experiments/study/test_engine.py::test_replicas_keep_to_the_memory_they_are_given",
    "experiments/study/test_engine.py::test_studies_share_cells",
    "experiments/study/test_from_arm.py",
    "experiments/study/test_judged.py",
    "experiments/study/test_match.py::test_arms_agree_and_are_what_they_count[params_body]",
    "experiments/study/test_match.py::test_arms_agree_and_are_what_they_count[train_flops]",
    "experiments/study/test_match_pairs.py::test_splits_agree_and_are_what_they_count",
    "experiments/study/test_report.py::test_equal_results_give_equal_bytes",
    "experiments/study/test_study_command.py::test_a_new_norm_and_a_new_study_touch_no_other_file",
    "experiments/study/test_study_command.py::test_bad_input_is_one_line[words1",
    "experiments/study/test_study_command.py::test_bad_input_is_one_line[words2",
    "experiments/study/test_study_command.py::test_bad_input_is_one_line[words3",
    "experiments/study/test_study_command.py::test_bad_input_is_one_line[words4",
    "experiments/study/test_until.py::test_looking_after_each_seed_errs",
    "experiments/suites/test_fine_tuned.py",
    "experiments/suites/test_harness.py",
    "experiments/suites/test_recovery.py::test_what_cannot_be_scored",
    "experiments/suites/test_scores.py::test_what_each_family_is_shown",
    "experiments/test_ettin_sizes.py::test_scores_depend",
    "experiments/test_ettin_sizes.py::test_the_decoder_sees_no_future",
    "experiments/test_ettin_sizes.py::test_within_the_radius",
    "experiments/test_gradient_noise.py::test_the_tiny_form_runs",
    "experiments/test_same_again.py::test_the_tiny_form_runs",
    "experiments/test_shallow_again.py::test_the_tiny_form_runs",
    "experiments/test_translation_studies.py::test_pair_and_decoder_spend_the_same",
    "experiments/test_translation_studies.py::test_what_integers_cost",
    "experiments/test_wide_attention.py::test_the_tiny_form_runs",
    "extension/test_mechanisms.py::test_a_member_of_an_ensemble_is_its_lone_run[codes at sites",
    "extension/test_mechanisms.py::test_a_member_of_an_ensemble_is_its_lone_run[encoder-decoder",
    "extension/test_mechanisms.py::test_a_member_of_an_ensemble_is_its_lone_run[lstm",
    "extension/test_mechanisms.py::test_a_member_of_an_ensemble_is_its_lone_run[recurrent translator",
    "extension/test_mechanisms.py::test_eight_devices_are_one[lstm",
    "extension/test_mechanisms.py::test_eight_devices_are_one[recurrent translator",
    "extension/test_mechanisms.py::test_it_trains[encoder-decoder",
    "extension/test_mechanisms.py::test_it_trains[recurrent translator",
    "extension/test_mechanisms.py::test_resumed_is_uninterrupted[recurrent translator",
    "extension/test_mechanisms.py::test_taps[class-incremental",
    "extension/test_mechanisms.py::test_taps[codes by gradient",
    "extension/test_mechanisms.py::test_taps[differential",
    "extension/test_mechanisms.py::test_taps[distillation",
    "extension/test_mechanisms.py::test_taps[frozen with",
    "extension/test_mechanisms.py::test_taps[norm",
    "extension/test_particulars.py::test_a_frozen_network_starts_from_another_run",
    "extension/test_particulars.py::test_replicas_of_a_model_of_ones_own_vary_its_initialisers",
    "extension/test_particulars.py::test_two_micro_batches_are_one_batch[codes by gradient]",
    "extension/test_particulars.py::test_two_micro_batches_are_one_batch[codes by running sums",
    "extension/test_particulars.py::test_two_micro_batches_are_one_batch[masked language model]",
    "test_verbs.py::test_a_sweep_is_a_study",
    "train/objectives/test_concatenated.py::test_packed_pairs_are_scored",
    "train/objectives/test_distillation.py",
    "train/objectives/test_policy_gradient.py",
    "train/objectives/test_sequence_to_sequence.py::test_packing_changes_no_loss",
    "train/optim/test_noise.py::test_members_may_vary_seed",
    "train/optim/test_noise.py::test_the_seed_decides",
    "train/test_batch_warmup.py::test_a_step_is_that_of_the_rows",
    "train/test_codes_from_data.py",
    "train/test_conversions.py",
    "train/test_loop.py::test_a_learning_rate_that_ends_in_infinity",
    "train/test_loop.py::test_a_profile_of_some_steps",
    "train/test_members.py::test_a_member_is_its_lone_run[1",
    "train/test_members.py::test_a_member_is_its_lone_run[2",
    "train/test_members.py::test_members_that_differ_in_their_draw",
    "train/test_members.py::test_replicas_may_vary_the_objective",
    "train/test_members.py::test_resumed_members_are_uninterrupted_ones",
    "train/test_members.py::test_sharded_members_are_unsharded_ones",
    "train/test_noisy.py",
    "train/test_sharded.py",
    "train/test_sharded_classifiers.py",
    "train/test_start.py::test_every_replica_gets_it",
    "train/test_start.py::test_frozen_parameters_have_no_state_and_no_gradient",
    "train/test_start.py::test_resuming_comes_first",
)
"""Beginnings of the names of tests that take long, by the seconds of a whole run: `make slow` runs them."""

SIMPLE = (
    *("norm", "frozen with adapters", "class-incremental stream", "differential attention", "codes by gradient"),
    *("mixed stack", "distillation"),
)
"""Foreign mechanisms whose long tests are slow: the others go through the same ways."""

LONG = ("test_eight_devices", "test_it_trains", "test_a_member_of_an_ensemble", "test_resumed", "test_cached_decoding")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks the slow ones."""
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        simple = "test_mechanisms.py" in name and any(f"[{one}]" in name for one in SIMPLE)
        if name.startswith(SLOW) or (simple and any(one in name for one in LONG)):
            item.add_marker(pytest.mark.slow)
