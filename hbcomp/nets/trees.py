"""A forest of decision trees as plain arrays, which answers as scikit-learn's forest does."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float32, Float64
from torch import Tensor, nn

NODE_ARRAYS = {
    "feature": torch.int32,  # that a node asks about; 0 in a leaf
    "threshold": torch.float64,  # up to which a row goes left
    "left": torch.int32,  # the nodes that follow; a leaf follows itself
    "right": torch.int32,
}


class Forest(nn.Module):
    """The nodes of all trees, one tree after another, and the shares of the classes in each."""

    def __init__(self, n_classes: int, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features
        self.register_buffer("roots", torch.zeros(0, dtype=torch.int32))
        for name, dtype in NODE_ARRAYS.items():
            self.register_buffer(name, torch.zeros(0, dtype=dtype))
        self.register_buffer("shares", torch.zeros(0, n_classes, dtype=torch.float64))
        self.roots: Tensor
        self.feature: Tensor
        self.threshold: Tensor
        self.left: Tensor
        self.right: Tensor
        self.shares: Tensor

    def take(self, forest: Any) -> None:
        """Take over the trees of a fitted scikit-learn forest whose classes are numbers."""
        parts: dict[str, list[Tensor]] = {name: [] for name in (*NODE_ARRAYS, "roots", "shares")}
        start = 0
        for tree in (each.tree_ for each in forest.estimators_):
            n_nodes = tree.node_count
            own, is_leaf = torch.arange(n_nodes), torch.tensor(tree.children_left < 0)
            children = {"left": tree.children_left, "right": tree.children_right}
            for name, array in children.items():
                parts[name].append(start + torch.where(is_leaf, own, torch.tensor(array)))
            parts["feature"].append(torch.tensor(tree.feature).clamp(min=0))
            parts["threshold"].append(torch.tensor(tree.threshold))
            shares = torch.zeros(n_nodes, self.shares.shape[1], dtype=torch.float64)
            shares[:, torch.tensor(forest.classes_)] = torch.tensor(tree.value[:, 0])
            parts["shares"].append(shares)
            parts["roots"].append(torch.tensor([start]))
            start += n_nodes
        for name, arrays in parts.items():
            buffer = getattr(self, name)
            setattr(self, name, torch.cat(arrays).to(buffer))

    def forward(self, features: Float32[Tensor, "b f"]) -> Float64[Tensor, "b k"]:
        """Return the mean over the trees of the shares of the classes in each row's leaves."""
        nodes = self.roots.long().expand(len(features), -1)  # (b, trees)
        while True:
            values = features.gather(1, self.feature[nodes].long())
            is_left = values.double() <= self.threshold[nodes]
            following = torch.where(is_left, self.left[nodes], self.right[nodes]).long()
            if torch.equal(following, nodes):
                break
            nodes = following
        # One tree after another, as scikit-learn sums: the last bits depend on the order.
        total = torch.zeros(len(features), self.shares.shape[1]).to(self.shares)
        for leaves in nodes.T:
            total += self.shares[leaves]
        return total / len(self.roots)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take weights of any number of nodes, and refuse those that would lead astray."""
        loaded = {name: state_dict.get(prefix + name) for name in (*NODE_ARRAYS, "roots", "shares")}
        for name, tensor in loaded.items():
            if tensor is not None and tensor.ndim:
                own = getattr(self, name)
                setattr(self, name, own.new_zeros(len(tensor), *own.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if any(tensor is None for tensor in loaded.values()):
            return  # which is reported as missing
        n_nodes = {len(getattr(self, name)) for name in (*NODE_ARRAYS, "shares")}
        if len(n_nodes) > 1:
            raise RuntimeError(f"{prefix[:-1]}: its arrays must be of the same nodes")
        own = torch.arange(len(self.feature), device=self.feature.device)
        is_leaf = (self.left == own) & (self.right == own)
        follows = (self.left > own) & (self.right > own)  # so that every way ends
        in_range = (self.left < len(own)) & (self.right < len(own)) & (self.feature >= 0)
        is_sound = (is_leaf | follows) & in_range & (self.feature < self.n_features)
        if not (is_sound.all() and ((self.roots >= 0) & (self.roots < len(own))).all()):
            raise RuntimeError(f"{prefix[:-1]}: its nodes are not those of trees")
