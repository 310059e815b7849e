"""Linked models train as one network would, and a round takes effect everywhere or nowhere."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from common.adapters.attach import attach_new
from common.adapters.methods import LoRA
from common.backbones import load_backbone
from common.errors import ExchangeError, InputError, ModelError
from common.protocol.gradients.joint_training import JointTraining, Stage
from common.protocol.gradients.linkage import Linkage
from tests.common.protocol.joint_processes import run_processes, seen
from tests.common.protocol.joint_sites import (
    ALONE,
    INPUTS,
    Networks,
    batch,
    largest_difference,
    trained_alone,
)
from tests.common.protocol.mailboxes import Died, Mailboxes, at_once
from tests.tiny_bert import make_tiny_bert

pytestmark = pytest.mark.usefixtures("one_thread")

TWO = {"text": [0], "image": [0], "head": [1]}
THREE = {"text": [0], "image": [1], "head": [2]}
REPLICAS = {"text": [0, 1], "image": [0, 1], "head": [0, 1]}
GONE = "none: it is gone, or silent for too long"


class TestOneProcess:
    """Without a wire every stage is here."""

    def test_training_equals_that_of_one_network(self):
        networks = Networks()
        training = JointTraining(ALONE, networks.stages())
        losses = [training.step(batch(i), n_samples=8).loss for i in range(5)]
        expected, expected_losses = trained_alone(5)
        assert largest_difference(networks.parameters(), expected) < 1e-6
        assert losses == pytest.approx(expected_losses, abs=1e-6)
        assert training.done == 5

    def test_a_lora_encoder_and_a_head_learn_together(self, tmp_path):
        """The base is frozen; the loss of the head reaches A and B through the link."""
        base = load_backbone(make_tiny_bert(tmp_path / "tiny"))
        kept = [parameter.clone() for parameter in base.model.parameters()]
        encoder = attach_new(base, LoRA(rank=2)).backbone.model
        head = torch.nn.Linear(16, 1)

        def states(ids):
            return encoder(input_ids=ids).last_hidden_state.mean(dim=1)

        def loss(targets, read):
            return torch.nn.functional.mse_loss(head(read)[:, 0], targets)

        trained = [p for p in encoder.parameters() if p.requires_grad]
        stages = {
            "text": Stage(states, torch.optim.AdamW(trained, lr=1e-2)),
            "head": Stage(loss, torch.optim.AdamW(head.parameters(), lr=1e-2)),
        }
        training = JointTraining(Linkage({"text": (), "head": ("text",)}), stages)
        rows = {"text": torch.randint(5, 19, (8, 6)), "head": torch.randn(8)}
        losses = [training.step(rows, n_samples=8).loss for _ in range(20)]
        assert losses[-1] < 0.7 * losses[0]
        assert any(bool(p.any()) for name, p in encoder.named_parameters() if "lora_B" in name)
        for before, after in zip(kept, base.model.parameters(), strict=True):
            assert torch.equal(before, after)

    def test_a_value_that_is_no_number_leaves_all_as_it_was(self):
        networks = Networks()
        training = JointTraining(ALONE, networks.stages())
        rows = batch(0)
        rows["image"][0, 0, 0] = float("nan")
        with pytest.raises(ExchangeError) as caught:
            training.step(rows, n_samples=8)
        assert caught.value.subject == "site image"
        assert caught.value.found == "values that are no finite numbers"
        assert largest_difference(networks.parameters(), Networks().parameters()) == 0.0
        training.step(batch(0), n_samples=8)
        assert largest_difference(networks.parameters(), trained_alone(1)[0]) < 1e-6

    def test_a_step_that_ruins_parameters_is_undone(self):
        """The first vote has passed then: what was stepped is put back."""
        networks = Networks()
        stages = networks.stages()
        training = JointTraining(ALONE, stages)
        training.step(batch(0), n_samples=8)
        kept = networks.parameters()
        stages["head"].optimizer.param_groups[0]["lr"] = float("inf")
        with pytest.raises(ExchangeError) as caught:
            training.step(batch(1), n_samples=8)
        assert caught.value.subject == "site head"
        assert largest_difference(networks.parameters(), kept) == 0.0
        stages["head"].optimizer.param_groups[0]["lr"] = 1e-2
        training.step(batch(1), n_samples=8)
        assert largest_difference(networks.parameters(), trained_alone(2)[0]) < 1e-6

    def test_a_stage_nobody_learns_from_may_be_frozen(self):
        networks = Networks()
        networks.text.requires_grad_(False)
        kept = networks.parameters()
        JointTraining(ALONE, networks.stages()).step(batch(0), n_samples=8)
        changed = {
            name.split(".")[0]
            for name, value in networks.parameters().items()
            if not torch.equal(value, kept[name])
        }
        assert changed == {"image", "head"}

    @pytest.mark.parametrize("output", [torch.zeros(3), torch.zeros(1, dtype=torch.int64)])
    def test_the_last_stage_gives_a_loss(self, output):
        parameter = torch.nn.Parameter(torch.zeros(1))
        stage = Stage(lambda _: output, torch.optim.SGD([parameter], lr=0.1))
        training = JointTraining(Linkage({"head": ()}), {"head": stage})
        with pytest.raises(ExchangeError) as caught:
            training.step({}, n_samples=1)
        assert isinstance(caught.value.__cause__, ModelError)

    def test_an_interrupt_leaves_all_as_it_was(self):
        def interrupted(_):
            raise KeyboardInterrupt

        networks = Networks()
        stages = networks.stages()
        stages["head"] = Stage(lambda *_: interrupted(0), stages["head"].optimizer)
        with pytest.raises(KeyboardInterrupt):
            JointTraining(ALONE, stages).step(batch(0), n_samples=8)
        assert largest_difference(networks.parameters(), Networks().parameters()) == 0.0

    def test_an_interrupt_after_the_last_vote_leaves_all_as_it_was(self):
        """The other site may have gone on; what they do about it is `rejoin`'s."""
        linkage = Linkage(INPUTS, {name: tuple(ranks) for name, ranks in TWO.items()})
        boxes = Mailboxes(2)
        networks = [Networks(), Networks()]
        trainings = at_once(
            lambda: _joined(linkage, networks[0], boxes.wire(0), "text", "image"),
            lambda: _joined(linkage, networks[1], boxes.wire(1), "head"),
        )
        trainings[0]._wire.flush = _interrupted
        outcomes = _all_step(trainings, 0)
        assert isinstance(outcomes[0], KeyboardInterrupt)
        assert [training.done for training in trainings] == [0, 1]
        assert largest_difference(networks[0].parameters(), Networks().parameters()) == 0.0
        fresh = Mailboxes(2)
        at_once(*(lambda r=r: trainings[r].rejoin(fresh.wire(r)) for r in (0, 1)))
        assert [training.done for training in trainings] == [0, 0]
        assert largest_difference(networks[1].parameters(), Networks().parameters()) == 0.0

    def test_stages_and_samples_must_be_there(self):
        stages = Networks().stages("text", "image")
        with pytest.raises(InputError):
            JointTraining(ALONE, stages)
        with pytest.raises(InputError):
            JointTraining(Linkage(INPUTS, {k: tuple(v) for k, v in TWO.items()}), stages)
        with pytest.raises(InputError):
            JointTraining(ALONE, Networks().stages()).step(batch(0), n_samples=0)
        with pytest.raises(InputError):
            JointTraining(ALONE, Networks().stages(), dtype="float16")


class TestFrames:
    """Outside torch.distributed the same messages go as gradient frames."""

    def test_two_lanes_of_two_sites_train_as_one(self):
        """Lane 0 has 3 of 8 samples; replicas that start unlike take the first lane's."""
        inputs = {"text": (), "head": ("text",)}
        linkage = Linkage(inputs, {"text": (0, 2), "head": (1, 3)})
        boxes = Mailboxes(4)
        torch.manual_seed(0)
        rows, targets = torch.randn(8, 3), torch.randn(8)
        whole = [_small(seed=0, text=True), _small(seed=0, text=False)]
        parts = [_small(seed=rank, text=rank % 2 == 0) for rank in range(4)]
        for part, twin in zip(parts[:2], whole, strict=True):
            part.load_state_dict(twin.state_dict())

        def site(rank):
            cut = slice(0, 3) if rank < 2 else slice(3, None)
            name = "text" if rank % 2 == 0 else "head"
            stage = {name: _small_stage(parts[rank], text=name == "text")}
            training = JointTraining(linkage, stage, boxes.wire(rank))
            mine = {"text": rows[cut], "head": targets[cut]}
            return [training.step(mine, n_samples=len(rows[cut])).loss for _ in range(3)]

        losses = at_once(*(lambda rank=rank: site(rank) for rank in range(4)))
        assert losses[1:] == losses[:-1]
        stages = {n: _small_stage(m, text=n == "text") for n, m in zip(inputs, whole, strict=True)}
        alone = JointTraining(Linkage(inputs), stages)
        expected = [alone.step({"text": rows, "head": targets}, n_samples=8).loss for _ in range(3)]
        assert losses[0] == pytest.approx(expected, abs=1e-6)
        for part, twin in zip(parts, [*whole, *whole], strict=True):
            for one, other in zip(part.parameters(), twin.parameters(), strict=True):
                assert torch.allclose(one, other, atol=1e-6)
        for lane in (0, 1):  # replicas hold the same bits
            pairs = zip(parts[lane].parameters(), parts[lane + 2].parameters(), strict=True)
            assert all(torch.equal(one, other) for one, other in pairs)

    def test_unlike_replicas_are_refused(self):
        linkage = Linkage({"head": ()}, {"head": (0, 1)})
        boxes = Mailboxes(2)

        def site(rank):
            parameter = torch.nn.Parameter(torch.zeros(2 + rank))
            stage = Stage(parameter.sum, torch.optim.SGD([parameter], lr=0.1))
            return JointTraining(linkage, {"head": stage}, boxes.wire(rank))

        errors = at_once(lambda: site(0), lambda: site(1))
        assert {error.subject for error in errors} == {"site head.1"}
        assert all("other shapes" in error.found for error in errors)

    def test_a_site_that_is_one_round_ahead_undoes_it_when_they_meet_again(self):
        """The last vote of round 1 never reaches the text's site: only the head commits."""
        linkage = Linkage(INPUTS, {name: tuple(ranks) for name, ranks in TWO.items()})
        # from the head: joining 2, then in each round 2 gradients and 2 votes
        boxes = Mailboxes(2, lose=lambda source, target, n: source == 1 and n >= 2 + 4 + 3)
        networks = [Networks(), Networks()]
        trainings = at_once(
            lambda: _joined(linkage, networks[0], boxes.wire(0), "text", "image"),
            lambda: _joined(linkage, networks[1], boxes.wire(1), "head"),
        )
        for i in range(2):
            outcomes = _all_step(trainings, i)
        assert isinstance(outcomes[0], ExchangeError)
        assert outcomes[0].subject == "site head"
        assert [training.done for training in trainings] == [1, 2]
        with pytest.raises(ExchangeError):
            trainings[0].step(batch(1), n_samples=8)  # nothing goes on before they meet
        fresh = Mailboxes(2)
        at_once(*(lambda r=r: trainings[r].rejoin(fresh.wire(r)) for r in (0, 1)))
        assert [training.done for training in trainings] == [1, 1]
        for i in (1, 2):
            _all_step(trainings, i)
        expected = trained_alone(3)[0]
        together = networks[0].parameters() | {
            name: value for name, value in networks[1].parameters().items() if "head" in name
        }
        assert largest_difference(together, expected) < 1e-6

    @pytest.mark.parametrize(
        ("site", "message"), [(s, m) for s, n in enumerate((5, 5, 6)) for m in range(n)]
    )
    def test_a_site_may_die_before_any_of_its_messages(self, site, message):
        """In round 1. The others end it together; all meet again, and nothing is amiss.

        Who had heard everybody's last vote goes on, and learns of it in the next round.
        """
        linkage = Linkage(INPUTS, {name: tuple(ranks) for name, ranks in THREE.items()})
        n_messages = (5, 5, 6)  # in a round: activations or gradients, then 4 votes
        boxes = Mailboxes(3, dies=(site, 4 + n_messages[site] + message))  # 4 in joining
        networks = [Networks() for _ in range(3)]
        trainings = at_once(
            *(
                lambda r=r, name=name: _joined(linkage, networks[r], boxes.wire(r), name)
                for r, name in enumerate(THREE)
            )
        )
        outcomes = at_once(*(lambda t=t: [_step(t, i) for i in range(3)] for t in trainings))
        assert isinstance(outcomes.pop(site), Died)
        assert {error.subject for error in outcomes} == {f"site {linkage.site(site)}"}
        assert {training.done for training in trainings} <= {1, 2}
        fresh = Mailboxes(3)
        at_once(*(lambda r=r: trainings[r].rejoin(fresh.wire(r)) for r in range(3)))
        (done,) = {training.done for training in trainings}
        for i in range(done, 3):
            _all_step(trainings, i)
        together = {
            key: value
            for network, name in zip(networks, THREE, strict=True)
            for key, value in network.parameters().items()
            if key.startswith(name)
        }
        assert largest_difference(together, trained_alone(3)[0]) < 1e-6

    def test_sites_at_different_rounds_are_refused(self):
        linkage = Linkage(INPUTS, {name: tuple(ranks) for name, ranks in TWO.items()})
        boxes = Mailboxes(2)
        networks = Networks()
        errors = at_once(
            lambda: _joined(linkage, networks, boxes.wire(0), "text", "image", done=7),
            lambda: _joined(linkage, networks, boxes.wire(1), "head", done=5),
        )
        assert {error.subject for error in errors} == {"site text:image"}
        assert all("another round" in error.found for error in errors)

    @pytest.mark.parametrize("ahead", [0, 1])
    def test_a_replica_that_is_refused_keeps_its_parameters(self, ahead):
        linkage = Linkage({"head": ()}, {"head": (0, 1)})
        boxes = Mailboxes(2)
        parameters = [torch.nn.Parameter(torch.full((3,), float(rank))) for rank in range(2)]

        def site(rank):
            stage = Stage(parameters[rank].sum, torch.optim.SGD([parameters[rank]], lr=0.1))
            done = 5 if rank == ahead else 0
            return JointTraining(linkage, {"head": stage}, boxes.wire(rank), done=done)

        errors = at_once(lambda: site(0), lambda: site(1))
        assert all("another round" in error.found for error in errors)
        assert [parameter[0].item() for parameter in parameters] == [0.0, 1.0]

    def test_other_numbers_of_samples_are_refused(self):
        linkage = Linkage(INPUTS, {name: tuple(ranks) for name, ranks in TWO.items()})
        boxes = Mailboxes(2)
        networks = Networks()
        trainings = at_once(
            lambda: _joined(linkage, networks, boxes.wire(0), "text", "image"),
            lambda: _joined(linkage, networks, boxes.wire(1), "head"),
        )
        errors = at_once(
            lambda: trainings[0].step(batch(0), n_samples=8),
            lambda: trainings[1].step(batch(0), n_samples=7),
        )
        assert all("another number of samples" in error.found for error in errors)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Several trainings, one after the other, on the same two processes."""
    folder = tmp_path_factory.mktemp("pair")
    jobs = [
        {"ranks": TWO, "rounds": 4},
        {"ranks": TWO, "rounds": 4, "dtype": "bfloat16"},
        {"ranks": REPLICAS, "rounds": 4, "unlike": True},
        {"ranks": TWO, "rounds": 4, "at": 2, "actor": 0, "act": "nan"},
        {"ranks": TWO, "rounds": 4, "at": 2, "actor": 1, "act": "nan"},
        {"ranks": TWO, "rounds": 4, "at": 2, "actor": 0, "act": "raise"},
    ]
    assert run_processes(folder, jobs, n_processes=2) == [0, 0]
    return folder


class TestProcesses:
    """Two and three processes over Gloo."""

    def test_two_processes_equal_one(self, pair):
        expected, losses = trained_alone(4)
        assert largest_difference(_weights(pair, 0), expected) < 1e-6
        for rank in (0, 1):
            assert seen(pair, 0, rank)["losses"] == pytest.approx(losses, abs=1e-6)

    def test_bfloat16_rounds_but_trains(self, pair):
        losses = seen(pair, 1, 0)["losses"]
        assert losses == pytest.approx(trained_alone(4)[1], rel=1e-2)
        assert losses != seen(pair, 0, 0)["losses"]

    def test_replicas_average_and_equal_one_process(self, pair):
        """Shares of 3 and 5 rows; the second process starts with other weights."""
        expected, losses = trained_alone(4)
        one, other = (load_file(pair / f"2-{rank}.safetensors") for rank in (0, 1))
        assert largest_difference(one, expected) < 1e-6
        assert largest_difference(one, other) == 0.0
        assert seen(pair, 2, 0)["losses"] == pytest.approx(losses, abs=1e-6)

    @pytest.mark.parametrize(
        ("job", "site", "found", "causes"),
        [
            (3, "site image", "values that are no finite numbers", (None, None)),
            (4, "site head", "values that are no finite numbers", (None, None)),
            (5, "site text", "that its own function failed", ("IndexError", None)),
        ],
    )
    def test_a_faulty_site_rolls_the_round_back_on_all(self, pair, job, site, found, causes):
        """Every site names it, is as it was (moments too), and the next round works."""
        for rank in (0, 1):
            told = seen(pair, job, rank)
            assert told["errors"] == [[site, found, causes[rank], True]]
            assert (told["done"], len(told["losses"])) == (3, 3)

    @pytest.mark.parametrize("act", ["kill", "kill in its step", "stop"])
    def test_a_site_that_is_gone_or_hangs_rolls_the_others_back(self, tmp_path, act):
        """A killed one is noticed at once, a stopped one after the timeout.

        Where it is killed in its step, the others have stepped already and undo it.
        """
        timeout_s = 3.0 if act == "stop" else 30.0
        job = {"ranks": THREE, "rounds": 4, "at": 2, "actor": 1, "act": act}
        codes = run_processes(tmp_path, [job | {"timeout_s": timeout_s}], n_processes=3)
        assert (codes[0], codes[2]) == (0, 0)
        for rank in (0, 2):
            told = seen(tmp_path, 0, rank)
            assert told["errors"][0] == ["site image", GONE, None, True]
            assert told["errors"][1][0] == "group of sites"  # nothing goes on without it
            assert told["done"] == 2
            assert max(told["seconds"]) < 25  # far less than the timeout of the killed one

    def test_a_killed_site_comes_again_and_training_ends_as_if_nothing_had_been(self, tmp_path):
        """It starts from its checkpoint; the others form a new group and rejoin."""
        job = {"ranks": THREE, "rounds": 5, "at": 2, "actor": 1, "again": True}
        assert run_processes(tmp_path, [job], n_processes=3) == [0, 0, 0]
        assert largest_difference(_weights(tmp_path, 0, n_processes=3), trained_alone(5)[0]) < 1e-6


def _weights(folder, job, *, n_processes=2):
    files = [load_file(folder / f"{job}-{rank}.safetensors") for rank in range(n_processes)]
    return {name: tensor for file in files for name, tensor in file.items()}


def _joined(linkage, networks, wire, *names, done=0):
    return JointTraining(linkage, networks.stages(*names), wire, done=done)


def _all_step(trainings, i):
    return at_once(*(lambda t=t: _step(t, i) for t in trainings))


def _interrupted(*, lost):
    raise KeyboardInterrupt


def _step(training, i):
    return training.step(batch(i), n_samples=8)


def _small(*, seed, text):
    torch.manual_seed(seed)
    return torch.nn.Linear(3, 4) if text else torch.nn.Linear(4, 1)


def _small_stage(module, *, text):
    def of_head(targets, states):
        return torch.nn.functional.mse_loss(module(states)[:, 0], targets)

    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    return Stage(module if text else of_head, optimizer)
