"""ExecuTorch programs: the same numbers as torch in float, nothing but integers in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

pytest.importorskip("executorch", reason="executorch is not installed: pip install '.[executorch]'")

from compiler.export.executorch.delegates import VULKAN, XNNPACK, Lowering
from compiler.export.executorch.exporter import Precision, Program, branch_method, policy_method, save_program
from models.policies.policy import StepPolicy
from runtimes.spec import Bits, View
from tests.compiler.export.small_networks import (
    CLASSES,
    HIDDEN,
    LARGE,
    OPTIONS,
    SEEN,
    SMALL,
    SmallBackbone,
    branch,
    conditions_at,
    integer,
    joint_policy,
    pictures,
    run_branch,
    run_policy,
    smallest,
)
from tests.models.small_arnet import SMALLEST
from tests.runtimes.executorch_bundles import POLICY_VIEWS, methods, program
from tests.runtimes.stored_bundles import at_bits, frozen_network

pytestmark = pytest.mark.slow  # lowering a network for ExecuTorch takes seconds

MIDDLE = View(name="rgb52", size=52)


def opened(program: Program, name: str) -> Any:
    """A method of a written program, loaded by the engine's own means."""
    from runtimes.engines.executorch import _library, _pool

    with _pool.sized(_library(), 1):
        return _library().native._load_program(str(program.file)).load_method(name)


def run(method: Any, inputs: list[NDArray[np.generic]]) -> list[NDArray[np.floating]]:
    return [value.numpy() for value in method.call([torch.from_numpy(value) for value in inputs])]


def relative_error(got: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def branch_error(program: Program, name: str, network: nn.Module, views: tuple[View, ...]) -> float:
    """How far a branch is from torch at any of the views, in units of its logits."""
    method = opened(program, name)
    errors = []
    for view in views:
        frames = pictures(view, 16, seed=50)
        got = np.concatenate([run(method, [frames[i : i + 1]])[0] for i in range(len(frames))])
        errors.append(relative_error(got, run_branch(network, frames, view)))
    return max(errors)


def policy_error(
    program: Program, name: str, policy: StepPolicy, views: dict[str, View], steps: int
) -> float:
    """How far a policy that keeps its own state is from torch over the steps of a stream, at most."""
    method, errors = opened(program, name), []
    state = [part.numpy() for part in policy.initial_state(1)]
    for step, wanted in enumerate(run_policy(policy, views, steps)):
        frames = [pictures(view, seed=step) for view in views.values()]
        outputs = run(method, [*frames, *conditions_at(policy, step).values(), *state])
        state = outputs[-len(state) :]
        errors += [relative_error(got, wanted[name]) for name, got in zip(wanted, outputs, strict=True)]
    return max(errors)


def test_float_branches_equal_torch() -> None:
    """At every size between those of its views, too."""
    assert branch_error(program(), "net-fp32", branch(), (SMALL, MIDDLE, LARGE)) < 1e-5


def test_integer_branches_equal_the_frozen_network() -> None:
    assert branch_error(program(), "net-int8", integer("branch"), (SMALL, MIDDLE, LARGE)) < 0.05


def test_policies_keep_their_state() -> None:
    network = integer("policy")
    assert isinstance(network, StepPolicy)
    assert policy_error(program(), "policy", network, POLICY_VIEWS, steps=12) < 0.05


def test_methods_say_what_they_take_and_give() -> None:
    branch_inputs = methods()["net-int8"].inputs
    assert {name: (t.dtype, t.shape) for name, t in branch_inputs.items()} == {
        "frame": ("uint8", (1, None, None, 3))
    }
    policy = methods()["policy"]
    assert [(name, t.shape) for name, t in policy.inputs.items()] == [
        ("frame", (1, 40, 40, 3)),
        ("price", (1, 1)),
        ("h", (1, HIDDEN)),
        ("c", (1, HIDDEN)),
    ]
    assert [(name, t.shape) for name, t in policy.outputs.items()] == [
        ("scores", (1, OPTIONS)),
        ("logits0", (1, CLASSES)),
        ("next_h", (1, HIDDEN)),
        ("next_c", (1, HIDDEN)),
    ]


def test_all_is_delegated_and_every_layer_an_integer_one() -> None:
    counts = {name: (low.integer_layers, low.float_layers) for name, low in program().methods.items()}
    assert counts == {"policy": (9, 0), "net-fp32": (0, 5), "net-int8": (5, 0)}
    for lowering in program().methods.values():
        assert lowering.delegates == {XNNPACK: 1}
        assert lowering.undelegated == {}


def test_weights_are_stored_as_trained() -> None:
    """As codes, and once: the programs' bytes have them, and the float ones' bytes not."""
    content = program().file.read_bytes()
    for layer in integer("branch").modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.kernel_size == (1, 1):
            codes = layer.get_buffer("codes").numpy().tobytes()
            assert content.count(codes) == 1
            assert layer.weight.detach().numpy().tobytes() not in content


def test_equal_methods_are_equal_bytes(tmp_path: Path) -> None:
    """A device that has a program need not fetch it again."""
    files = [
        save_program({"net": branch_method(smallest(), [SMALL], "fp32")}, tmp_path / name, "xnnpack").file
        for name in ("one.pte", "two.pte")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_vulkan_takes_floats(tmp_path: Path) -> None:
    half = {"half": branch_method(smallest(), [SMALL, LARGE], "fp16")}
    lowering = save_program(half, tmp_path / "gpu.pte", "vulkan").methods["half"]
    assert lowering == Lowering({VULKAN: 1}, {}, integer_layers=0, float_layers=2)


def test_integers_of_a_vulkan_program_are_left_to_xnnpack(tmp_path: Path) -> None:
    network = integer("smallest")
    both = {
        "half": branch_method(smallest(), [SMALL, LARGE], "fp16"),
        "int8": branch_method(network, [SMALL, LARGE], "int8"),  # type: ignore[arg-type]
    }
    written = save_program(both, tmp_path / "gpu.pte", "vulkan")
    assert written.methods == {
        "half": Lowering({VULKAN: 1}, {}, integer_layers=0, float_layers=2),
        "int8": Lowering({XNNPACK: 1}, {}, integer_layers=2, float_layers=0),
    }
    assert branch_error(written, "int8", network, (SMALL, LARGE)) < 0.05


def test_vulkan_is_given_no_uint8(tmp_path: Path) -> None:
    """Its kernels would throw on Android, as the program is loaded."""
    method = branch_method(smallest(), [SMALL], "fp32")
    content = save_program({"net": method}, tmp_path / "gpu.pte", "vulkan").file.read_bytes()
    assert b"quantized_decomposed::dequantize_per_tensor" in content, "the runtime's own kernel"
    assert b"quantized_decomposed.dequantize_per_tensor" not in content, "an operator of the delegate"


def test_precisions_fit_their_networks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the network is of float layers"):
        branch_method(branch(), [SMALL], "int8")
    with pytest.raises(ValueError, match="the network is of integer layers"):
        branch_method(integer("branch"), [SMALL], "fp32")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fp16 is for vulkan"):
        save_program({"net": branch_method(branch(), [SMALL], "fp16")}, tmp_path / "net.pte", "xnnpack")


def test_exporting_leaves_a_float_network_as_it_was() -> None:
    network = SmallBackbone().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    branch_method(network, [SMALL], "fp32")
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_policies_over_several_groups(tmp_path: Path) -> None:
    """Told which there are and the answer so far; their sums and maxima XNNPACK leaves to the runtime."""
    network = integer("joint")
    assert isinstance(network, StepPolicy)
    both = {
        "fp32": policy_method(joint_policy(), SEEN, ["logits0", "logits1"], "fp32"),
        "int8": policy_method(network, SEEN, ["logits0", "logits1"], "int8"),
    }
    written = save_program(both, tmp_path / "policy.pte", "xnnpack")
    assert policy_error(written, "fp32", joint_policy(), SEEN, steps=6) < 1e-4
    assert policy_error(written, "int8", network, SEEN, steps=6) < 0.05
    assert written.methods["int8"].float_layers == 0
    assert set(written.methods["int8"].undelegated) <= {"sum", "amax"}


@pytest.mark.parametrize(("bits", "precision"), [(4, "int4"), (2, "int2")])
def test_narrower_codes_are_held_as_int8(tmp_path: Path, bits: Bits, precision: Precision) -> None:
    network = at_bits(frozen_network(SMALLEST), bits)
    method = branch_method(network, [LARGE], precision)
    written = save_program({"net": method}, tmp_path / "net.pte", "xnnpack")
    assert written.methods["net"].float_layers == 0
    assert branch_error(written, "net", network, (LARGE,)) < 0.1
