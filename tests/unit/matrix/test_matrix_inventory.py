import json
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretopipe_matrix.errors import InventoryError
from paretopipe_matrix.hosts.connection import SshTarget
from paretopipe_matrix.hosts.inventory import HostVars, load_inventory
from paretopipe_matrix.hosts.placement import assign_cpus

SHIPPED = Path(__file__).parents[3] / "inventory" / "local.yml"
HEAD = "all:\n  hosts: {a: , b: }\n  vars:\n    ansible_connection: local\n"
SSH = HEAD.replace("local", "ssh") + "    paretopipe_data_address: 10.0.0.1\n"
PIPE = "    paretopipe_pipelines: {p: [a, b]}\n"


def inventory(tmp_path, text, **files):
    for name, body in files.items():
        path = tmp_path / name.replace("__", "/")
        path = path.with_suffix(".yml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(body))
    (tmp_path / "inv.yml").write_text(dedent(text))
    return load_inventory(tmp_path / "inv.yml")


def test_shipped_local_inventory():
    local = load_inventory(SHIPPED)
    assert dict(local.pipelines) == {"local": ("edge", "server")}
    assert local.default_pipeline() == "local"
    assert local.hosts["edge"] == HostVars("edge", "local", "127.0.0.1", 0, "auto", "auto", "cpu", sys.executable)


def test_groups_children_and_precedence(tmp_path):
    loaded = inventory(
        tmp_path,
        """
        all:
          vars:
            ansible_connection: local
            paretopipe_threads: 1
            paretopipe_pipelines: {p: [pi1, gpu], q: [gpu, pi1]}
          children:
            pis:
              vars: {paretopipe_threads: 4, paretopipe_data_port: 7000}
              hosts:
                pi1: {paretopipe_data_port: 7001}
            edge:
              children: {pis: }
              vars: {paretopipe_threads: 2, paretopipe_data_address: 10.0.0.1}
            servers:
              hosts: {gpu: {paretopipe_cpus: [3, 1]}}
        """,
    )
    pi, gpu = loaded.hosts["pi1"], loaded.hosts["gpu"]
    # pis lies inside edge, so it wins over it; the host wins over both; all loses to everybody.
    assert (pi.threads, pi.data_port, pi.data_address) == (4, 7001, "10.0.0.1")
    assert (gpu.threads, gpu.cpus, gpu.data_address) == (1, (1, 3), "127.0.0.1")
    assert list(loaded.pipelines) == ["p", "q"]


def test_group_vars_and_host_vars_files(tmp_path):
    loaded = inventory(
        tmp_path,
        HEAD + PIPE,
        group_vars__all="paretopipe_threads: 3\nsecret: !vault |\n  abc",
        host_vars__b="paretopipe_threads: 5",
    )
    assert (loaded.hosts["a"].threads, loaded.hosts["b"].threads) == (3, 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD, "no pipelines; set paretopipe_pipelines"),
        (HEAD + "    paretopipe_pipelines: {p: [a, c]}", "p: unknown host 'c'"),
        (HEAD + "    paretopipe_pipelines: {p: [a, a]}", "host 'a' is named twice"),
        (HEAD + "    paretopipe_pipelines: {p: [a]}", "needs at least two hosts"),
        (HEAD + "    paretopipe_pipelines: {p: a}", "must be a list of hosts"),
        (HEAD + PIPE + "    paretopipe_cpu: 1", "unknown variable (did you mean paretopipe_cpus?)"),
        (HEAD + PIPE + "    paretopipe_cpus: 2", "paretopipe_cpus: 2: must be auto or a list"),
        (HEAD + PIPE + "    paretopipe_cpus: []", "must be auto or a list"),
        (HEAD + PIPE + "    paretopipe_threads: 0", "must be auto or a whole number from 1"),
        (HEAD + PIPE + "    paretopipe_data_port: 70000", "must be a port"),
        (HEAD + PIPE + "    paretopipe_device: gpu", "'gpu': valid: cpu, cuda, cuda:1"),
        (HEAD + PIPE + "    paretopipe_device: 'cuda:'", "'cuda:': valid: cpu, cuda, cuda:1"),
        (HEAD + PIPE + "    paretopipe_engine: fusd", "'fusd' (did you mean fused?): valid: eager, fused, onnxruntime"),
        (HEAD + PIPE + '    paretopipe_python: "{{ x }}"', "templates are not evaluated"),
        (HEAD.replace("local", "docker") + PIPE, "ansible_connection: 'docker': valid: local, ssh"),
        (HEAD + PIPE + "    paretopipe_data_address: localhost", "'localhost': must be an IP address"),
        (HEAD + PIPE + "    paretopipe_data_interface: a-name-too-long-for-linux", "the name of an interface"),
        (HEAD + PIPE + "    paretopipe_root: opt/paretopipe", "must be an absolute path such as /opt/paretopipe"),
        (HEAD + PIPE + "    paretopipe_state_dir: /", "must be an absolute path such as /run/paretopipe"),
        (HEAD + PIPE + '    paretopipe_root: "/opt/{% if x %}a{% endif %}"', "templates are not evaluated"),
        (HEAD.replace("local", "ssh") + PIPE, "host a: paretopipe_data_address is not set"),
        (SSH + "    ansible_ssh_common_args: -o StrictHostKeyChecking=no", "host keys are always checked"),
        (SSH + "    ansible_password: secret", "passwords are not used"),
        (SSH + '    ansible_host: "{{ lookup(x) }}"', "templates are not evaluated"),
        ("all: {}", "has no hosts"),
        ("[all]", "must be a YAML inventory"),
        ("all: {host: }", "unknown key 'host'; valid: hosts, children, vars"),
        ("all: {hosts: [a]}", "must be a mapping"),
        ("all:\n  hosts: {a: }\n  hosts: {b: }", ":3: hosts: given twice"),
    ],
)
def test_mistakes(tmp_path, text, words):
    with pytest.raises(InventoryError) as error:
        inventory(tmp_path, text)
    assert words in str(error.value)
    assert "inv.yml" in str(error.value)


def test_ssh_hosts(tmp_path):
    loaded = inventory(
        tmp_path,
        """
        all:
          hosts:
            pi1: {ansible_host: 10.77.0.2, paretopipe_data_address: 10.77.1.2, paretopipe_root: /srv/pp}
            pi2:
              paretopipe_data_address: 10.77.1.3
              paretopipe_data_interface: data0
              paretopipe_device: cuda:1
              paretopipe_engine: onnxruntime
          vars:
            ansible_user: root
            ansible_ssh_private_key_file: "{{ inventory_dir }}/keys/{{ inventory_hostname }}"
            ansible_ssh_common_args: -o UserKnownHostsFile={{ inventory_dir }}/known_hosts -J bastion
            ansible_python_interpreter: "{{ ansible_playbook_python }}"
            ansible_become_password: "{{ not_ours }}"
            paretopipe_torch_flavour: cpu
            paretopipe_wheel_dir: "{{ playbook_dir }}/wheels"
            paretopipe_shared_packages: ""
            paretopipe_extras: [onnxruntime]
            paretopipe_manage_system: false
            paretopipe_pipelines: {pi-to-pi: [pi1, pi2]}
        """,
    )
    pi1, pi2 = loaded.hosts["pi1"], loaded.hosts["pi2"]
    assert (pi1.connection, pi1.root, pi1.state_dir, pi1.data_interface, pi1.python) == (
        "ssh",
        "/srv/pp",
        "/run/paretopipe",
        None,
        None,
    )
    assert (pi2.data_interface, pi2.device, pi2.engine) == ("data0", "cuda:1", "onnxruntime")
    assert (pi1.device, pi1.engine) == ("cpu", "best")
    assert pi1.ssh == SshTarget(
        "10.77.0.2",
        user="root",
        key_files=(f"{tmp_path}/keys/pi1",),
        known_hosts=(f"{tmp_path}/known_hosts",),
        proxy_jump="bastion",
    )
    assert pi2.ssh is not None
    assert pi2.ssh.address == "pi2"


def test_what_run_json_keeps(tmp_path):
    loaded = inventory(
        tmp_path,
        """
        all:
          hosts: {edge: {ansible_connection: local, paretopipe_cpus: [0]}, gpu: }
          vars:
            paretopipe_data_address: 10.0.0.1
            paretopipe_pipelines: {p: [edge, gpu]}
        """,
    )
    kept = json.loads(json.dumps(loaded.as_json()))
    edge, gpu = kept["hosts"]["edge"], kept["hosts"]["gpu"]
    assert (edge["connection"], edge["cpus"], edge["threads"], edge["device"], edge["ssh"]) == (
        "local",
        [0],
        "auto",
        "cpu",
        None,
    )
    assert (gpu["connection"], gpu["ssh"]["address"], gpu["root"]) == ("ssh", "gpu", "/opt/paretopipe")
    assert kept["pipelines"] == {"p": ["edge", "gpu"]}


def test_nobody_reaches_a_neighbours_loopback(tmp_path):
    """A host on this machine, too, needs an address that the others know; one that is given is taken as it is."""
    mixed = """
        all:
          hosts:
            a: {{ansible_connection: local, {a}}}
            b: {{ansible_connection: {b}, paretopipe_data_address: 127.0.0.1}}
          vars: {{paretopipe_pipelines: {{p: [a, b]}}}}
        """
    with pytest.raises(InventoryError, match=r"host a: paretopipe_data_address is not set.*of pipeline p"):
        inventory(tmp_path, mixed.format(a="", b="ssh"))
    assert inventory(tmp_path, mixed.format(a="paretopipe_data_address: 10.0.0.1", b="ssh"))
    assert inventory(tmp_path, mixed.format(a="", b="local"))


def test_variable_files_are_found_as_ansible_finds_them(tmp_path):
    (tmp_path / "group_vars/all").mkdir(parents=True)
    (tmp_path / "group_vars/all/10.yml").write_text("paretopipe_threads: 3\nparetopipe_data_port: 1")
    (tmp_path / "group_vars/all/20.yml").write_text("paretopipe_threads: 4")
    (tmp_path / "group_vars/all/.30.yml.swp").write_text("not yaml: [")
    (tmp_path / "group_vars/all.yml").write_text("paretopipe_threads: 9")
    loaded = inventory(tmp_path, HEAD + PIPE)
    assert (loaded.hosts["a"].threads, loaded.hosts["a"].data_port) == (4, 1)


def test_missing_inventory_says_what_to_do(tmp_path):
    with pytest.raises(InventoryError, match="--inventory"):
        load_inventory(tmp_path / "none.yml")


def test_unknown_pipeline():
    with pytest.raises(InventoryError, match=r"unknown pipeline 'locl' \(did you mean local\?\).*has: local"):
        load_inventory(SHIPPED).pipeline("locl")


def test_one_core_each_where_there_are_enough():
    placed = assign_cpus([HostVars("a"), HostVars("b", threads=2)], {4, 7, 9})
    assert (placed["a"].cpus, placed["a"].threads) == ((4,), 1)
    assert (placed["b"].cpus, placed["b"].threads) == ((7,), 2)


def test_all_share_where_there_are_not():
    placed = assign_cpus([HostVars("a"), HostVars("b"), HostVars("c")], {0, 1})
    assert all((p.cpus, p.threads) == ((0, 1), 2) for p in placed.values())


def test_listed_cores_are_left_to_their_host():
    placed = assign_cpus([HostVars("a", cpus=(0,)), HostVars("b")], {0, 1})
    assert (placed["a"].cpus, placed["b"].cpus) == ((0,), (1,))
    both = assign_cpus([HostVars("a", cpus=(0, 1)), HostVars("b", cpus=(1,))], {0, 1})
    assert (both["a"].cpus, both["b"].cpus) == ((0, 1), (1,))
    with pytest.raises(InventoryError, match=r"host a: paretopipe_cpus: no core 8 here; available: \[0, 1\]"):
        assign_cpus([HostVars("a", cpus=(0, 8))], {0, 1})


@given(st.integers(1, 5), st.sets(st.integers(0, 7), min_size=1))
def test_auto_placement_holds_for_any_machine(n_hosts, available):
    placed = list(assign_cpus([HostVars(f"h{i}") for i in range(n_hosts)], available).values())
    assert all(p.cpus and set(p.cpus) <= available and p.threads == len(p.cpus) for p in placed)
    if len(available) >= n_hosts:
        assert len({p.cpus for p in placed}) == n_hosts
    else:
        assert all(set(p.cpus) == available for p in placed)
