"""What subclasses of neural decoders override."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from neurorecon.decoders.neural.settings import device_and_precision
from neurorecon.decoders.validation import check_inputs

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


class Hooks:
    """The steps of a neural decoder, each to be overridden; only :meth:`build_network` has to be."""

    device: str
    precision: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    schedule: str
    warmup: float

    def build_network(self, input_shape: tuple[int, ...], target_shape: Any) -> nn.Module:
        """Return a new network.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one input.
        target_shape : tuple of int, or dict of str to tuple
            Shape of one target, or of several by name, as `y` was given.
        """
        raise NotImplementedError(f"{type(self).__name__} has to override build_network(input_shape, target_shape)")

    def prepare_inputs(self, X: Any, *, reset: bool) -> NDArray:
        """Return inputs, checked: an array of shape (sample, ...) in the precision of the network.

        Parameters
        ----------
        X : array, shape (sample, ...)
            As it was given.
        reset : bool
            Whether this is :meth:`fit`, which remembers the number of features.
        """
        _, precision = device_and_precision(self.device, self.precision)
        dtype = "float64" if precision == "float64" else "float32"
        return check_inputs(self, X, dtype, reset=reset)

    def augment(self, inputs: Tensor, targets: Any) -> tuple[Tensor, Any]:
        """Return a batch for training, changed at random if need be; not what was handed in, changed in place.

        Parameters
        ----------
        inputs : tensor, shape (sample, ...)
            Standardized.
        targets : tensor, shape (sample, ...), or dict of str to tensor
            Standardized.
        """
        return inputs, targets

    def forward(self, network: nn.Module, inputs: Tensor, targets: Any) -> Any:
        """Return what the network makes of a batch: a tensor, or several in a dict.

        Parameters
        ----------
        network : Module
            In training or in evaluation mode.
        inputs : tensor, shape (sample, ...)
            Standardized.
        targets : tensor, dict of str to tensor, or None
            In training what is to be predicted, e.g. the frames before the next; None in validation and
            prediction.
        """
        return network(inputs)

    def compute_loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of a batch; by default the mean squared error, summed over several targets.

        Parameters
        ----------
        outputs : tensor or dict of str to tensor
            What :meth:`forward` returned, in full precision.
        targets : tensor or dict of str to tensor
            Standardized.
        """
        from neurorecon.decoders.neural.losses import mse

        return sum_over_targets(mse, outputs, targets)

    def validation_score(self, outputs: Any, targets: Any) -> Tensor:
        """Return how good a held-out batch is predicted, more being better; by default the loss, negative."""
        return -self.compute_loss(outputs, targets)

    def to_predictions(self, outputs: Any) -> Any:
        """Return predictions of standardized targets: a tensor, or several in a dict by the names of targets.

        Parameters
        ----------
        outputs : tensor or dict of str to tensor
            What :meth:`forward` returned, in full precision; only some of it may predict targets.
        """
        return outputs

    def build_optimizer(self, network: nn.Module) -> Optimizer:
        """Return the optimizer."""
        from neurorecon.decoders.neural.schedules import named_optimizer

        return named_optimizer(self.optimizer, network, self.learning_rate, self.weight_decay, self.momentum)

    def build_scheduler(self, optimizer: Optimizer, n_steps: int) -> LRScheduler:
        """Return the schedule of the learning rate, which is stepped after each of `n_steps` batches."""
        from neurorecon.decoders.neural.schedules import named_schedule

        return named_schedule(self.schedule, optimizer, n_steps, self.warmup)


def sum_over_targets(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return a loss of one target, or its sum over several.

    Parameters
    ----------
    loss : callable
        Takes two tensors of shape (sample, ...).
    outputs, targets : tensor, or dict of str to tensor
        Outputs that are no target are left out.
    """
    if not isinstance(outputs, Mapping):
        return loss(outputs, targets)
    return sum(loss(values, targets[name]) for name, values in outputs.items() if name in targets)
