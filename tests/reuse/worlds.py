"""Random pipelines over real files, and random edits of both."""

from __future__ import annotations

import copy
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import (
    CommandStep,
    DataTransferStep,
    Environment,
    Pipeline,
    PipelineParameter,
    PythonScriptStep,
    StepOutput,
)
from tests.reuse.pure import COARSE, FAILS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from airflow_mlpipe.definitions import Step

FOLDERS = ("src0", "src1")
SCRIPTS = ("s0.py", "s1.py")
PARAMETERS: dict[str, tuple[Any, ...]] = {
    "rate": (0.1, 0.5, 1.0),
    "rounds": (1, 2, 3),
    "label": ("", "a", "1"),
    "fast": (True, False),
}
TYPES = {"rate": "number", "rounds": "integer", "label": "string", "fast": "boolean"}
KINDS = ("python_script", "python_script", "command", "command", "data_transfer")
OUTPUTS = ("out", "folder", "extra", "folder2")


@dataclass
class Node:
    """One step of a pipeline that changes: ``key`` stays, its name may not.

    An input is ``("step", key, output)`` or ``("data", path)``.
    """

    key: int
    name: str
    kind: str
    inputs: dict[str, tuple[Any, ...]]
    outputs: list[str]
    folder: str | None = None
    script: str = SCRIPTS[0]
    code: str = "directory"
    text: str = ""
    as_list: bool = False
    uses: list[str] = field(default_factory=list)
    own: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    after: list[int] = field(default_factory=list)
    idle: dict[str, Any] = field(default_factory=dict)
    allow_reuse: bool = True


@dataclass
class State:
    """What somebody has on disk and in the definition: to be edited, and to go back to."""

    nodes: list[Node] = field(default_factory=list)
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    idle: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> State:
        return copy.deepcopy(self)

    def node(self, key: int) -> Node:
        return next(node for node in self.nodes if node.key == key)

    def data(self) -> list[str]:
        """Return the external data: files and folders."""
        return sorted({"/".join(path.split("/")[:2]) for path in self.files if path.startswith("data/")})

    def below(self, place: str) -> list[str]:
        return sorted(path for path in self.files if path == place or path.startswith(f"{place}/"))


class World:
    """A folder that holds what a `State` says, and random changes to it."""

    def __init__(self, root: Path, random: Random) -> None:
        self.root = root
        self.random = random
        self.state = State()
        self.past: list[State] = []
        self.regenerate: set[str] = set()
        self.count = 0

    def begin(self, steps: int) -> None:
        """Make up a pipeline and its files."""
        self.state.values = {name: values[0] for name, values in PARAMETERS.items()}
        for folder in FOLDERS:
            for script in SCRIPTS:
                self._put(f"{folder}/{script}", f"import helper\nprint({script!r})\n")
            self._put(f"{folder}/helper.py", "one = 1\n")
            self._put(f"{folder}/other.py", "two = 2\n")
            self._put(f"{folder}/table.txt", "3\n")
        self._put("data/raw", "1,2\n")
        self._put("data/more", "3,4\n")
        self._put("data/months/01", "5\n")
        self._put("data/months/02", "6\n")
        for _ in range(steps):
            self._add_node()
        self.write()

    def pipeline(self) -> Pipeline:
        """Return the definition as it is now."""
        declared = {
            name: PipelineParameter(name, type=TYPES[name], default=value) for name, value in self.state.values.items()
        }
        pipeline = Pipeline(
            name="p",
            parameters={**declared, **{name: PipelineParameter(name, default="x") for name in self.state.idle}},
            steps=[self._step(node) for node in self.state.nodes],
        )
        pipeline.folder = self.root
        return pipeline

    def write(self) -> None:
        """Make the folder hold what the state says; what is right already is left alone."""
        for path in self._present() - self.state.files.keys():
            (self.root / path).unlink()
        for path, (content, mode) in self.state.files.items():
            file = self.root / path
            if not file.exists() or file.read_bytes() != content:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            if file.stat().st_mode & 0o777 != mode:
                file.chmod(mode)

    def edit(self) -> str:
        """Change one thing; return what."""
        change: Callable[[World], None] = self.random.choice(EDITS)
        change(self)
        self.write()
        return change.__name__.strip("_")

    def code_of(self, node: Node) -> set[tuple[str, bool]]:
        """Return the files that are the code of a step, and whether they are programs."""
        below = self.state.below(node.folder) if node.folder else []
        code = {path.partition("/")[2]: bool(self.state.files[path][1] & 0o100) for path in below}
        if node.kind == "python_script" and node.code == "imports":
            return {(path, code[path]) for path in (node.script, "helper.py")}
        return {item for item in code.items() if "__pycache__" not in item[0]}

    def _present(self) -> set[str]:
        return {
            path.relative_to(self.root).as_posix()
            for top in (*FOLDERS, "data")
            for path in (self.root / top).rglob("*")
            if path.is_file()
        }

    def _put(self, path: str, text: str, mode: int = 0o644) -> None:
        self.state.files[path] = (text.encode(), mode)

    def fresh(self) -> int:
        self.count += 1
        return self.count

    def _add_node(self) -> None:
        random, key = self.random, self.fresh()
        kind = random.choice(KINDS)
        sources = [("step", node.key, output) for node in self.state.nodes for output in node.outputs]
        sources += [("data", place) for place in self.state.data()] * (1 if sources else 3)
        if kind == "data_transfer":
            node = Node(key, f"n{key}", kind, {"data": random.choice(sources)}, ["data"])
        else:
            chosen = [random.choice(sources) for _ in range(random.randint(0, 3))]
            inputs = {f"in{index}": source for index, source in enumerate(chosen)}
            node = Node(key, f"n{key}", kind, inputs, sorted(random.sample(OUTPUTS, random.randint(1, 2))))
            self._furnish(node)
        self.state.nodes.append(node)

    def _furnish(self, node: Node) -> None:
        random = self.random
        node.folder = random.choice(FOLDERS if node.kind == "python_script" else (*FOLDERS, None, None))
        node.script = random.choice(SCRIPTS)
        node.code = random.choice(("directory", "imports"))
        node.as_list = random.choice((True, False))
        node.uses = sorted(random.sample(sorted(PARAMETERS), random.randint(0, 2)))
        if random.randint(0, 1):
            node.own = {"depth": random.choice((1, 1.5, "${{ parameters.rounds }}", "r${{ parameters.rate }}"))}
        if random.randint(0, 1):
            node.variables = {"LEVEL": random.choice(("1", "${{ parameters.label }}", "${{ parameters.fast }}"))}

    def _step(self, node: Node) -> Step:
        common = {"name": node.name, "allow_reuse": node.allow_reuse, **node.idle}
        common["run_after"] = tuple(self.state.node(key).name for key in node.after)
        inputs = {name: self._bound(source) for name, source in node.inputs.items()}
        if node.kind == "data_transfer":
            place = {"datastore": "landing", "path": self.landing_of(node)}
            return DataTransferStep(source=inputs["data"], destination=place, **common)
        common |= {"inputs": inputs, "outputs": node.outputs, "parameters": node.own}
        common["environment"] = Environment(variables=node.variables) if node.variables else None
        arguments = [f"--{name}=${{{{ parameters.{name} }}}}" for name in node.uses]
        arguments += [f"${{{{ inputs.{name} }}}}" for name in node.inputs]
        if node.kind == "python_script":
            common |= {"script_name": node.script, "source_directory": node.folder, "code": node.code}
            return PythonScriptStep(arguments=arguments, **common)
        line = ["tool", *arguments, node.text]
        return CommandStep(command=line if node.as_list else " ".join(line), source_directory=node.folder, **common)

    def landing_of(self, node: Node) -> str:
        """Return where a transfer copies to: a file and a folder never to the same place, which is refused."""
        return f"t{node.key}-{'folder' if self._is_folder(node.inputs['data']) else 'file'}"

    def _is_folder(self, source: tuple[Any, ...]) -> bool:
        if source[0] == "data":
            return source[1] not in self.state.files
        node = self.state.node(source[1])
        return self._is_folder(node.inputs["data"]) if node.kind == "data_transfer" else "folder" in source[2]

    def _bound(self, source: tuple[Any, ...]) -> Any:
        if source[0] == "step":
            return StepOutput(step=self.state.node(source[1]).name, output=source[2])
        return {"path": source[1]}


def _any_file(world: World, *suffixes: str, place: str = "src") -> str:
    return world.random.choice(
        [path for path in world.state.files if path.startswith(place) and path.endswith(suffixes)]
    )


def _append(world: World, path: str, text: str) -> None:
    content, mode = world.state.files[path]
    world.state.files[path] = (content + text.encode(), mode)


def edit_code(world: World) -> None:
    _append(world, _any_file(world, *SCRIPTS), f"print({world.fresh()})\n")


def edit_comment(world: World) -> None:
    _append(world, _any_file(world, ".py"), f"# {world.fresh()}\n")


def edit_imported(world: World) -> None:
    _append(world, _any_file(world, "helper.py"), f"one = {world.fresh()}\n")


def edit_not_imported(world: World) -> None:
    _append(world, _any_file(world, "other.py", "table.txt"), f"{world.fresh()}\n")


def edit_ignored(world: World) -> None:
    world._put(f"{world.random.choice(FOLDERS)}/__pycache__/helper.pyc", f"{world.fresh()}")


def edit_coarse(world: World) -> None:
    _append(world, _any_file(world, *SCRIPTS), f"{COARSE}\n")


def edit_failing(world: World) -> None:
    _append(world, _any_file(world, *SCRIPTS), f"{FAILS}\n")


def edit_mode(world: World) -> None:
    path = _any_file(world, "")
    content, mode = world.state.files[path]
    world.state.files[path] = (content, mode ^ world.random.choice((0o100, 0o010)))


def edit_parameter(world: World) -> None:
    name = world.random.choice(sorted(PARAMETERS))
    world.state.values[name] = world.random.choice(PARAMETERS[name])


def edit_variable(world: World) -> None:
    node = world.random.choice(world.state.nodes)
    if node.kind != "data_transfer":
        node.variables = {**node.variables, "LEVEL": f"{world.fresh()}"}


def edit_own_parameter(world: World) -> None:
    node = world.random.choice(world.state.nodes)
    if node.kind != "data_transfer":
        node.own = {"depth": world.random.choice((1, 1.0, True, "1", "true", 0.0, "${{ parameters.label }}"))}


def edit_unused_parameter(world: World) -> None:
    world.state.idle[f"idle{world.fresh()}"] = True


def edit_uses(world: World) -> None:
    node = world.random.choice(world.state.nodes)
    if node.kind != "data_transfer":
        world._furnish(node)


def edit_command(world: World) -> None:
    world.random.choice(world.state.nodes).text = f"t{world.fresh()}"


def edit_data(world: World) -> None:
    path = _any_file(world, "", place="data")
    content, mode = world.state.files[path]
    changed = content[:-1] + b"%d\n" % (world.fresh() % 10) if world.random.choice((True, False)) else content[::-1]
    world.state.files[path] = (changed, mode)


def edit_folder(world: World) -> None:
    """Add, remove or rename a file of a folder of data."""
    paths = [path for path in world.state.files if path.count("/") > 1 and path.startswith("data/")]
    path = world.random.choice(paths)
    place = path.rpartition("/")[0]
    match world.random.choice(("add", "remove", "rename")):
        case "remove" if len(paths) > 1:
            del world.state.files[path]
        case "rename":
            world.state.files[f"{place}/{world.fresh()}"] = world.state.files.pop(path)
        case _:
            world._put(f"{place}/{world.fresh()}", "7\n")


def edit_time(world: World) -> None:
    """Touch a file."""
    os.utime(world.root / _any_file(world, "", place=world.random.choice(("src", "data"))))


def edit_place(world: World) -> None:
    """Move data elsewhere; the definition follows."""
    place = world.random.choice(world.state.data())
    moved = f"data/d{world.fresh()}"
    for path in world.state.below(place):
        world.state.files[moved + path.removeprefix(place)] = world.state.files.pop(path)
    for node in world.state.nodes:
        node.inputs = {
            name: ("data", moved) if source == ("data", place) else source for name, source in node.inputs.items()
        }


def edit_name(world: World) -> None:
    world.random.choice(world.state.nodes).name = f"m{world.fresh()}"


def edit_order(world: World) -> None:
    world.random.shuffle(world.state.nodes)


def edit_idle(world: World) -> None:
    """Change what means nothing to the result."""
    world.random.choice(world.state.nodes).idle = {
        "description": f"d{world.fresh()}",
        "display_name": world.random.choice((None, "D")),
        "labels": {"team": f"{world.count}"},
        "retries": world.random.choice((0, 3)),
        "version": f"{world.count}",
        "pool": world.random.choice((None, "gpu")),
        "priority": world.random.choice((None, 5)),
    }


def edit_allow_reuse(world: World) -> None:
    node = world.random.choice(world.state.nodes)
    node.allow_reuse = not node.allow_reuse


def edit_regenerate(world: World) -> None:
    world.regenerate.add(world.random.choice(world.state.nodes).name)


def edit_output(world: World) -> None:
    """Rename an output; its consumers follow."""
    node = world.random.choice(world.state.nodes)
    if node.kind == "data_transfer":
        return
    old, new = node.outputs[0], f"{world.random.choice(('out', 'folder'))}_{world.fresh()}"
    node.outputs = [new, *node.outputs[1:]]
    for other in world.state.nodes:
        other.inputs = {
            name: ("step", node.key, new) if source == ("step", node.key, old) else source
            for name, source in other.inputs.items()
        }


def edit_input(world: World) -> None:
    """Give a step other data."""
    node = world.random.choice(world.state.nodes)
    if node.inputs:
        node.inputs[world.random.choice(sorted(node.inputs))] = ("data", world.random.choice(world.state.data()))


def edit_swap(world: World) -> None:
    """Give a step its inputs under each other's names."""
    node = world.random.choice([node for node in world.state.nodes if len(node.inputs) > 1] or world.state.nodes)
    names = sorted(node.inputs)
    node.inputs = {name: node.inputs[names[index - 1]] for index, name in enumerate(names)}


def edit_after(world: World) -> None:
    """Make a step come after another one that was made before it."""
    node = world.random.choice(world.state.nodes)
    earlier = [other.key for other in world.state.nodes if other.key < node.key]
    node.after = [world.random.choice(earlier)] if earlier else []


def edit_new_step(world: World) -> None:
    world._add_node()


def edit_gone_step(world: World) -> None:
    used = {source[1] for node in world.state.nodes for source in node.inputs.values()}
    used |= {key for node in world.state.nodes for key in node.after}
    ends = [node for node in world.state.nodes if node.key not in used]
    if len(world.state.nodes) > 1:
        world.state.nodes.remove(world.random.choice(ends))


def edit_back(world: World) -> None:
    """Go back to how everything was at an earlier run."""
    if world.past:
        world.state = world.random.choice(world.past).copy()


def edit_destination(world: World) -> None:
    """Meddle with what a transfer left."""
    places = sorted((world.root / "landing").iterdir()) if (world.root / "landing").is_dir() else []
    if not places:
        return
    place = world.random.choice(places)
    files = sorted(path for path in (place, *place.rglob("*")) if path.is_file())
    match world.random.choice(("touch", "edit", "remove", "add")):
        case "edit" if files:
            file = world.random.choice(files)
            file.write_bytes(file.read_bytes()[::-1] + b"!")
        case "remove":
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        case "add" if place.is_dir():
            (place / f"{world.fresh()}").write_text("extra")
        case _ if files:
            os.utime(world.random.choice(files))


EDITS = [value for name, value in list(globals().items()) if name.startswith("edit_")]
