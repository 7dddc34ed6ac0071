"""Rules on modelling code, read by `ast` and never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

LOOKUP = "ALL_ATTENTION_FUNCTIONS"


class Source:
    """The classes of a file."""

    def __init__(self, text: str):
        tree = ast.parse(text)
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self.kinds: dict[str, str] = {}
        for node in tree.body:
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "PARTS"
                and isinstance(node.value, ast.Dict)
            ):
                for key, value in zip(node.value.keys, node.value.values, strict=True):
                    self.kinds[ast.literal_eval(key)] = ast.unparse(value)  # type: ignore[arg-type]

    def line(self, name: str) -> list[ast.ClassDef]:
        """A class and those of the file that it descends from, nearest first."""
        found: list[ast.ClassDef] = []
        waiting = [name]
        while waiting:
            node = self.classes.get(waiting.pop(0))
            if node is not None and node not in found:
                found.append(node)
                waiting += [ast.unparse(base) for base in node.bases]
        return found

    def method(self, name: str, method: str) -> ast.FunctionDef | None:
        """A method of a class, its own or inherited."""
        for node in self.line(name):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == method:
                    return item
        return None

    def attribute(self, name: str, attribute: str) -> str | None:
        """What a class, or one that it descends from, has as an attribute of the class."""
        for node in self.line(name):
            for item in node.body:
                if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == attribute:
                    return ast.unparse(item.value)
        return None

    def used(self, config: Mapping[str, Any], attribute: str) -> list[str]:
        """Kinds of parts that have a true `attribute`."""
        return [kind for kind, name in self.kinds.items() if self.attribute(name, attribute) == "True"]

    def attends(self, kind: str) -> bool:
        """Whether a part mixes tokens by the attention function of the configuration."""
        forward = self.method(self.kinds[kind], "forward")
        return forward is not None and LOOKUP in ast.unparse(forward)

    def masks(self, kind: str) -> bool:
        """Whether a part calls the attention function with something else than a mask that it was given."""
        method = self.method(self.kinds[kind], "mask_of")
        if method is None:
            return False
        last = method.body[-1]
        return not (
            isinstance(last, ast.Return) and ast.unparse(last.value or ast.Constant(None)) == "masks[self.mask]"
        )

    def opens(self) -> Iterator[str]:
        """What would stop Transformers from opening the file."""
        for name in self.classes:
            if not any("PreTrainedModel" in ast.unparse(base) for node in self.line(name) for base in node.bases):
                continue
            ends = self.method(name, "__init__")
            if ends is not None and ast.unparse(ends.body[-1]) != "self.post_init()":
                yield f"{name}.__init__ does not end in self.post_init()"
            tied = self.attribute(name, "_tied_weights_keys")
            if tied not in (None, "None") and not tied.startswith("{"):
                yield f"{name}._tied_weights_keys={tied} is no dict"
        if not any(self.attribute(name, "config_class") for name in self.classes):
            yield "no class has a config_class"

    def attention(self) -> Iterator[str]:
        """The attention function is looked up once and called once, its scale is a number or an attribute, and the
        part knows its layer."""
        for name, node in self.classes.items():
            forward = next(
                (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "forward"), None
            )
            if forward is None or LOOKUP not in ast.unparse(forward):
                continue
            calls = [one for one in ast.walk(forward) if isinstance(one, ast.Call)]
            lookups = [one for one in calls if LOOKUP in ast.unparse(one.func)]
            attention = [one for one in calls if ast.unparse(one.func) == "attention_interface"]
            if len(lookups) != 1 or len(attention) != 1:
                yield f"{name} must look the attention function up once and call it once"
                continue
            scaling = next((one.value for one in attention[0].keywords if one.arg == "scaling"), None)
            if not isinstance(scaling, (ast.Constant, ast.Attribute)) or (
                isinstance(scaling, ast.Attribute) and ast.unparse(scaling.value) != "self"
            ):
                yield f"{name} must give scaling= a number or an attribute of its own"
            init = self.method(name, "__init__")
            if init is None or "self.layer_idx = layer_idx" not in ast.unparse(init):
                yield f"{name} must keep its layer_idx"
            if not any(one.arg is None for one in attention[0].keywords):
                yield f"{name} must hand **kwargs to the attention function"

    def norms(self) -> Iterator[str]:
        """A class named ...RMSNorm is replaced by a plain one of `weight` and `eps`: it must be just that."""
        for name in self.classes:
            if not name.endswith("RMSNorm"):
                continue
            init, forward = self.method(name, "__init__"), self.method(name, "forward")
            made = {ast.unparse(one.targets[0]) for one in ast.walk(init or ast.Module([], []))
                    if isinstance(one, ast.Assign)}  # fmt: skip
            if made - {"self.weight", "self.eps", "self.variance_epsilon"} or "self.weight" not in made:
                yield f"{name} is replaced by a plain RMSNorm, and holds {', '.join(sorted(made))}"
                continue
            last = None if forward is None else forward.body[-1]
            product = last.value if isinstance(last, ast.Return) else None
            if not isinstance(product, ast.BinOp) or not isinstance(product.op, ast.Mult) or (
                "self.weight" not in (ast.unparse(product.left), ast.unparse(product.right))
            ):  # fmt: skip
                yield f"{name} is replaced by a plain RMSNorm, and does not end in the product with its weight"

    def base_model(self, name: str) -> Iterator[str]:
        """The class that `AutoModel` opens."""
        forward, init = self.method(name, "forward"), self.method(name, "__init__")
        taken = set() if forward is None else {one.arg for one in forward.args.args}
        missing = {"input_ids", "inputs_embeds", "position_ids", "use_cache"} - taken
        if missing:
            yield f"{name}.forward does not take {', '.join(sorted(missing))}"
        if forward is None or forward.args.kwarg is None:
            yield f"{name}.forward does not take **kwargs"
        if init is None or ast.unparse(init).count("nn.ModuleList(") != 1:
            yield f"{name} must hold its layers in one nn.ModuleList"
        if self.attribute(name, "_supports_attention_backend") != "True":
            yield f"{name} does not say _supports_attention_backend"
