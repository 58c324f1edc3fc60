"""Mistakes of studies, and of the store of training runs."""

from .kinds import mutant

STUDIES = [
    mutant(
        "the digest forgets the seed",
        "training/recipe_digest.py",
        "value != defaults[key] and key not in NEUTRAL",
        'value != defaults[key] and key not in NEUTRAL | {"training.seed"}',
        "training/test_recipe_digest.py::test_every_key_counts_but_for_those_that_leave_the_same_model",
    ),
    mutant(
        "the version does not count",
        "training/recipe_digest.py",
        "json.dumps([version, settings], sort_keys=True)",
        "json.dumps(settings, sort_keys=True)",
        "training/test_recipe_digest.py::test_the_version_of_a_noise_process_counts_for_its_runs",
    ),
    mutant(
        "all noise processes share a version",
        "training/recipe_digest.py",
        "TRAINING_VERSIONS[recipe.modality.noise]",
        "max(TRAINING_VERSIONS.values())",
        "training/test_recipe_digest.py::test_digests_of_stored_runs_stay",
    ),
    mutant(
        "a run that was stopped counts as finished",
        "studies/run_store.py",
        "state = UNFINISHED if trained is None else FINISHED",
        "state = FINISHED",
        "studies/test_grid.py::test_a_stopped_study_ends_and_resumes",
    ),
    mutant(
        "checkpoints are measured with the weights after the training",
        "studies/digit_quality.py",
        "if step < run.steps or not arm.averaged:",
        "if not arm.averaged:",
        "studies/test_digit_studies.py::test_checkpoints_are_measured_with_both_kinds_of_weights",
    ),
    mutant(
        "seeds share the noise of their digits",
        "studies/digit_quality.py",
        "seed=seed * budget.samples,",
        "seed=seed,",
        "studies/test_digit_studies.py::test_checkpoints_are_measured_with_both_kinds_of_weights",
    ),
    mutant(
        "pages of studies on digits show the claims of all studies",
        "studies/digit_report.py",
        "if evidence.folder == folder",
        "if evidence.folder",
        "studies/test_digit_studies.py::test_a_page_shows_its_claims_and_their_verdicts",
    ),
    mutant(
        "the worst learning rate of a baseline is chosen",
        "studies/baseline_choice.py",
        "name: min(",
        "name: max(",
        "studies/test_digit_studies.py::test_learning_rates_are_chosen_on_a_seed_of_their_own",
    ),
    mutant(
        "a signal in the last step of a run is lost",
        "training/signals.py",
        "if self._outer is not None and not self._outer:",
        "if False and self._outer is not None:",
        "studies/test_grid.py::test_a_stopped_study_ends_and_resumes",
    ),
    mutant(
        "a folder with another recipe is taken for the run",
        "studies/run_store.py",
        "if facts[key] != value:",
        "if facts[key] is None:",
        "studies/test_grid.py::test_a_folder_that_holds_something_else_is_named",
    ),
    mutant(
        "a fine-tuned run is trained before the one that it starts from",
        "studies/run_store.py",
        "for needed in run.needs: _add(needed, listed)",
        "for needed in (): _add(needed, listed)",
        "studies/test_grid.py::test_a_run_starts_from_another_that_is_trained_before",
    ),
    mutant(
        "a run that another process trains ends the grid",
        "studies/train_runs.py",
        "except InUseError: busy.append(run) continue",
        "except InUseError: return False",
        "studies/test_grid.py::test_a_run_that_another_process_trains_is_left_to_it",
    ),
    mutant(
        "a study waits for a run of another process before it trains its others",
        "studies/design.py",
        "store=store, progress=progress, wait=False",
        "store=store, progress=progress, wait=True",
        "studies/test_grid.py::test_a_study_measures_what_it_can_while_another_process_trains_its_first_run",
    ),
    mutant(
        "measurements are kept although the runs have changed",
        "studies/design.py",
        'setting["runs"] = store.digest_of(self.runs)',
        'setting["runs"] = store.digest_of([])',
        "studies/test_grid.py::test_a_stopped_study_ends_and_resumes",
    ),
]
