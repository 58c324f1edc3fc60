"""Mistakes of the network with a head per token."""

from .kinds import mutant

TOKEN_HEAD = [
    mutant(
        "states shifted by one token",
        "model/token_head.py",
        "condition[:, blocks[0] - first :].index_select(1, rows)",
        "condition[:, blocks[0] - first :].roll(1, 1).index_select(1, rows)",
        "model/test_token_head.py::test_states_and_head_are_those_of_a_recomputation_of_every_prefix",
    ),
    mutant(
        "the state of one token used for the next ones",
        "model/token_head.py",
        "cache.condition = condition[:, -1:]",
        "cache.condition = condition[:, -1:] if kept is None else kept",
        "model/test_token_head.py::test_cached_is_teacher_forced",
    ),
    mutant(
        "the state after the prefix is that before it",
        "model/token_head.py",
        "cache.condition = condition[:, -1:]",
        "cache.condition = condition[:, :1]",
        "model/test_token_head.py::test_cached_is_teacher_forced",
    ),
    mutant(
        "positions in the cache without the start token",
        "model/token_head.py",
        "cache.num_blocks + 1",
        "cache.num_blocks",
        "model/test_token_head.py::test_cached_is_teacher_forced",
    ),
    mutant(
        "tokens see later ones",
        "model/token_head.py",
        "clean_visibility(1, indices.start, indices.stop)",
        "clean_visibility(1, indices.start, indices.stop, bidirectional=True)",
        "model/test_token_head.py::test_no_token_sees_a_later_one_or_itself_and_all_see_the_class",
    ),
    mutant(
        "the label of the last view",
        "model/token_head.py",
        "labels.reshape(samples, -1)[:, :1]",
        "labels.reshape(samples, -1)[:, -1:]",
        "model/test_token_head.py::test_draws_share_the_states_and_chosen_tokens_are_those_of_all",
    ),
    mutant(
        "guidance with one past for both branches",
        "model/token_head.py",
        "return self.y_embedder is not None",
        "return False",
        "diffusion/test_token_sampling.py::test_equals_the_loop",
    ),
    mutant(
        "a head without its gate",
        "model/token_head_layers.py",
        "torch.addcmul(x, gate, self.mlp(",
        "torch.addcmul(x, torch.ones_like(gate), self.mlp(",
        "model/test_token_head.py::test_states_and_head_are_those_of_a_recomputation_of_every_prefix",
    ),
    mutant(
        "a key and a value too few for the start token",
        "model/kv_cache.py",
        "self._lead + (self.num_cached + new_blocks)",
        "(self.num_cached + new_blocks)",
        "model/test_token_head.py::test_cached_is_teacher_forced",
    ),
    mutant(
        "FLOPs of one branch of guidance",
        "model/generator_counts.py",
        "once * (2 if guided and",
        "once * (1 if guided and",
        "model/test_generator_counts.py::test_sampling_flops_are_those_of_the_calls_of_a_generation",
    ),
    mutant(
        "a run of the other kind is resumed",
        "training/resuming.py",
        'if ("head_layers" in state["network"]) != ("head_layers" in NETWORK_KINDS[class_name]):',
        "if False:",
        "training/test_token_head_runs.py::test_a_run_of_the_other_kind_is_not_resumed",
    ),
]
