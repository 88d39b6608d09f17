"""What a command works with: spec, inventory, profiles and a testbed, checked against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paretopipe_matrix.errors import InventoryError, ProfileError, SpecError, StoreError, UserError
from paretopipe_matrix.hosts.inventory import HostVars, Inventory, load_inventory
from paretopipe_matrix.profiles import as_json, load_profiles
from paretopipe_matrix.refusals import refuse_unmeasurable
from paretopipe_matrix.spec import differences
from paretopipe_matrix.spec_source import LoadedSpec, check_paths, load_spec, stored_spec
from paretopipe_matrix.testbed import CellError, JsonObject, ModelDescription, ModelRequest, Profile, Testbed

DEFAULT_INVENTORY = Path("inventory/local.yml")
SIMULATED = "simulated"
AGENTS = "agents"


@dataclass(frozen=True)
class Context:
    """Checked input of a run; `profiles` and `pipelines` are those that the spec uses, in its order."""

    loaded: LoadedSpec
    inventory: Inventory
    profiles: Mapping[str, Profile]
    pipelines: Mapping[str, tuple[str, ...]]
    simulate: Path | None

    @property
    def testbed_name(self) -> str:
        """What run.json calls the testbed: nobody shall take a simulation for a measurement."""
        return SIMULATED if self.simulate else AGENTS

    @property
    def hosts(self) -> list[str]:
        """The hosts of all pipelines that the spec uses, each once, in order."""
        return list(dict.fromkeys(host for members in self.pipelines.values() for host in members))

    def as_json(self) -> JsonObject:
        """The part of run.json that was given."""
        return {
            "testbed": self.testbed_name,
            "spec": self.loaded.spec.as_json(),
            "seed": self.loaded.spec.seed,
            "inventory": self.inventory.as_json(),
            "profiles": {name: as_json(profile) for name, profile in self.profiles.items()},
        }


def new_context(
    spec_path: Path | None, flags: Mapping[str, Any], inventory_path: Path | None, simulate: Path | None
) -> Context:
    """Context of a run from a spec file and flags.

    Raises SpecError, InventoryError or ProfileError, before any host is touched.
    """
    loaded = load_spec(spec_path, flags)
    return _context(loaded, load_inventory(inventory_path or DEFAULT_INVENTORY), simulate)


def stored_context(
    run: Mapping[str, Any], run_file: Path, inventory_path: Path | None, simulate: Path | None
) -> Context:
    """Context of a run that goes on with the spec and inventory of its run.json."""
    loaded = stored_spec(run["spec"], run_file)
    return _context(loaded, load_inventory(inventory_path or Path(run["inventory"]["path"])), simulate)


def _context(loaded: LoadedSpec, inventory: Inventory, simulate: Path | None) -> Context:
    loaded = check_paths(loaded)
    loaded = LoadedSpec(loaded.spec.with_default_pipeline(inventory.default_pipeline()), loaded.where)
    book = load_profiles(inventory.path.parent / "profiles.yml")
    profiles: dict[str, Profile] = {}
    pipelines: dict[str, tuple[str, ...]] = {}
    for index, settings in enumerate(loaded.spec.entries()):
        try:
            pipelines |= {name: inventory.pipeline(name) for name in settings.pipelines}
        except InventoryError as error:
            raise SpecError(f"{loaded.where_entry(index, 'pipelines')}: {error}") from error
        try:
            profiles |= {name: book.get(name) for name in settings.profiles}
        except ProfileError as error:
            raise SpecError(f"{loaded.where_entry(index, 'profiles')}: {error}") from error
    refuse_unmeasurable(loaded, inventory, profiles)
    return Context(loaded, inventory, profiles, pipelines, simulate)


def refuse_changes(run: Mapping[str, Any], context: Context, directory: Path) -> None:
    """Raise StoreError listing what differs between a stored run and what is asked for now."""
    now = context.as_json()
    if run["testbed"] != now["testbed"]:
        raise StoreError(
            f"{directory}: was made on the {run['testbed']} testbed, this is the {now['testbed']} one; "
            "choose another --out"
        )
    # Read anew: what an older version did not know yet counts as its default.
    changed = differences(stored_spec(run["spec"], directory / "run.json").spec.as_json(), now["spec"])
    same = run["profiles"].keys() & now["profiles"].keys()
    changed += differences(
        {name: run["profiles"][name] for name in sorted(same)},
        {name: now["profiles"][name] for name in sorted(same)},
        "profiles",
    )
    changed += differences(_used(run["inventory"], context), _used(now["inventory"], context), "inventory")
    if changed:
        raise StoreError(
            f"{directory}: holds a run of another spec:\n  "
            + "\n  ".join(changed)
            + f"\nChoose another --out, or go on with its own spec: pp-matrix run --out {directory}"
        )


def _used(inventory: Mapping[str, Any], context: Context) -> JsonObject:
    """What of an inventory changes a measurement. Interpreter and versions are checked by the hosts' facts."""
    pipelines = {name: inventory["pipelines"].get(name) for name in context.pipelines}
    members = {host for hosts in pipelines.values() for host in hosts or ()}
    return {
        "pipelines": pipelines,
        "hosts": {
            host: {
                key: inventory["hosts"][host].get(key) or getattr(HostVars(host), key)
                for key in ("connection", "cpus", "threads", "device", "engine")
            }
            for host in sorted(members & inventory["hosts"].keys())
        },
    }


@contextmanager
def open_testbed(context: Context, log_dir: Path | None) -> Iterator[Testbed]:
    """The testbed, aborted on Ctrl-C and closed in any case. Raises UserError where hosts cannot be started."""
    testbed: Testbed
    if context.simulate:
        from paretopipe_matrix.simulated import SimulatedTestbed, load_simulation

        testbed = SimulatedTestbed(load_simulation(context.simulate), context.inventory)
    else:
        from paretopipe_matrix.hosts.session import Session

        try:
            testbed = Session(context.inventory, list(context.pipelines), log_dir)
        except CellError as error:
            raise UserError(worded(error)) from error
    try:
        yield testbed
    except KeyboardInterrupt:
        testbed.abort()
        raise
    finally:
        testbed.close()


def worded(error: CellError) -> str:
    """A CellError in one or two lines: host, what, remedy."""
    host = f"{error.host}: " if error.host else ""
    return f"{host}{error.message}" + (f"; {error.remedy}" if error.remedy else "")


@dataclass
class Descriptions:
    """Descriptions of models, asked for once each."""

    testbed: Testbed
    stored: Sequence[JsonObject] = ()
    """`models` of the run.json that is gone on with: there hosts keep the engines that they picked."""
    found: dict[tuple[ModelRequest, str], ModelDescription] = field(default_factory=dict)

    def __call__(self, request: ModelRequest, pipeline: str) -> ModelDescription:
        """The description; raises UserError where the model cannot be had as asked."""
        if (request, pipeline) not in self.found:
            try:
                self.found[request, pipeline] = self.testbed.describe(
                    request, pipeline, timed=True, picks=self._picks(request, pipeline)
                )
            except CellError as error:
                raise UserError(f"model {request.model}: {worded(error)}") from error
        return self.found[request, pipeline]

    def _picks(self, request: ModelRequest, pipeline: str) -> dict[str, str]:
        asked = asdict(request) | {"pipeline": pipeline}
        return {
            host: engine["picked"]
            for model in self.stored
            if all(model[key] == value for key, value in asked.items())
            for host, engine in model.get("engines", {}).items()
        }

    def as_json(self) -> list[JsonObject]:
        """Models as run.json lists them."""
        return [
            {
                **asdict(request),
                "pipeline": pipeline,
                "graph_hash": described.graph_hash,
                "weight_hash": described.weight_hash,
                "n_blocks": described.n_blocks,
                "parameters": described.parameters,
                "engines": dict(described.engines),
                "cuts": [asdict(cut) for cut in described.cuts],
            }
            for (request, pipeline), described in self.found.items()
        ]

    def refuse_changes(self, directory: Path) -> None:
        """Raise StoreError where a model is no longer the one that the directory's records come from."""
        for (request, pipeline), described in self.found.items():
            asked = asdict(request) | {"pipeline": pipeline}
            for old in self.stored:
                if any(old[key] != value for key, value in asked.items()):
                    continue
                changed = [key for key in ("graph_hash", "weight_hash") if getattr(described, key) != old[key]]
                if changed:
                    raise StoreError(
                        f"{directory}: model {request.model} is not the one measured here: "
                        f"{' and '.join(changed)} differ; "
                        "choose another --out, or restore the versions and weights named in run.json"
                    )
