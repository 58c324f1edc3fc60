"""Mistakes of orders of revealing tokens: which position is next, and what its probability is."""

from .kinds import mutant

ORDERS = [
    mutant(
        "an order looks at the token that comes next",
        "diffusion/revealed_views.py",
        "places = following(logits, masked)[..., None]",
        "places = _nll(logits.double().cpu(), targets).masked_fill(~masked, 99.0).argmin(-1)[..., None]",
        "pipelines/test_ordered_scores.py::test_probabilities_sum_to_one",
    ),
    mutant(
        "left is right",
        "diffusion/orders.py",
        "{LEFT: positions, RIGHT: positions[::-1]}",
        "{LEFT: positions[::-1], RIGHT: positions}",
        "diffusion/test_ordered_sampling.py::test_steps_of_fixed_orders",
    ),
    mutant(
        "positions are read as their ranks",
        "diffusion/ordered_schedulers.py",
        "torch.tensor(positions).argsort().double()",
        "torch.tensor(positions).double()",
        "diffusion/test_ordered_sampling.py::test_steps_of_fixed_orders",
    ),
    mutant(
        "the least certain prediction comes first",
        "diffusion/ordered_schedulers.py",
        "torch.special.entr(logits_at(logits, *part).softmax(-1)).sum(-1)",
        "-torch.special.entr(logits_at(logits, *part).softmax(-1)).sum(-1)",
        "diffusion/test_ordered_sampling.py::test_the_lowest_entropy_is_next",
    ),
    mutant(
        "rounding decides between equal predictions",
        "diffusion/ordered_schedulers.py",
        "priorities.amin(-1, keepdim=True) + TIE",
        "priorities.amin(-1, keepdim=True) + 0 * TIE",
        "diffusion/test_ordered_sampling.py::test_equal_entropies_go_from_left_to_right",
    ),
    mutant(
        "a step of an order fills all that is masked",
        "diffusion/ordered_schedulers.py",
        "range(self._due(count, step_index))",
        "range(count)",
        "diffusion/test_ordered_sampling.py::test_steps_of_fixed_orders",
    ),
    mutant(
        "given tokens are scored and revealed again",
        "diffusion/ordered_likelihood.py",
        "masked = (places >= texts.starts.view(-1, 1, 1, 1)) & ~hidden",
        "masked = ~hidden",
        "pipelines/test_ordered_scores.py::test_scores_are_the_sampler_s_law",
    ),
    mutant(
        "what comes later in an order is seen",
        "diffusion/revealed_views.py",
        "ranks >= step[:, None]",
        "ranks == step[:, None]",
        "pipelines/test_ordered_scores.py::test_probabilities_sum_to_one",
    ),
    mutant(
        "tails before the end of a text stay masked",
        "diffusion/ordered_likelihood.py",
        "position for position in positions[:last] if position >= text.stop",
        "position for position in positions[:last] if position > size",
        "pipelines/test_ordered_scores.py::test_scores_are_the_sampler_s_law",
    ),
    mutant(
        "all tails are as likely as each other",
        "diffusion/ordered_likelihood.py",
        "(views.masked, True), (views.scored, True), (views.hidden, False)",
        "(views.masked, True), (views.hidden, False)",
        "pipelines/test_ordered_scores.py::test_probabilities_sum_to_one",
    ),
    mutant(
        "tails are those of the data",
        "diffusion/revealed_views.py",
        "tokens = torch.where(counts, tokens, drawn)",
        "tokens = torch.where(counts, tokens, 0 * drawn)",
        "pipelines/test_ordered_scores.py::test_drawn_tails_bound_the_sampler_s_law",
    ),
    mutant(
        "held-out texts are scored in random order",
        "evaluation/likelihood.py",
        "order=scoring.order,",
        "",
        "cli/test_text_evaluation.py::test_scores_in_an_order",
    ),
    mutant(
        "texts are generated in another order than scored",
        "cli/evaluate_text.py",
        "if order != RANDOM and generation is not None:",
        "if order == RANDOM and generation is not None:",
        "cli/test_text_evaluation.py::test_scores_in_an_order",
    ),
]
