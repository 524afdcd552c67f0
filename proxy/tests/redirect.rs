//! `weft-proxy redirect` in a network namespace of its own, as in a pod's init container: the rules that the kernel has
//! afterwards, and where connections arrive.

use std::path::Path;
use std::process::{Command, Output};

const PROXY: &str = env!("CARGO_BIN_EXE_weft-proxy");

/// Runs a script as root of a new user and network namespace; `$PROXY` is the binary.
fn inside(script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-euc", script]);
    command.env("PROXY", PROXY).output().expect("unshare runs")
}

/// What the script printed; it must have ended well.
fn printed(script: &str) -> String {
    let output = inside(script);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether this machine lacks something. Says so, and fails where `CI` is set.
fn lacking(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let missing = programs.iter().find(|p| !installed(p)).map(|p| format!("{p} is not installed"));
    let namespaces =
        || (!inside("true").status.success()).then(|| "no namespaces can be made here".to_owned());
    let Some(why) = missing.or_else(namespaces) else { return false };
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
    true
}

#[test]
fn the_kernel_has_what_the_arguments_say() {
    if lacking(&["unshare", "nft"]) {
        return;
    }
    let rules = printed(
        "$PROXY redirect --uid=2000 --outbound-port=16001 --inbound-port=16006 --own-ports=16021 \
         --include-inbound-ports=80,443 --exclude-inbound-ports=9100 --include-outbound-ports=8443 \
         --exclude-outbound-ports=5432 --include-outbound-ranges=10.0.0.0/8,fd00::/8 \
         --exclude-outbound-ranges=10.1.0.0/16 --exclude-interfaces=net1 2>/dev/null
         nft -n list table inet weft-redirect",
    );
    for expected in [
        "meta skuid 2000 accept",
        "oifname \"lo\" accept",
        "oifname \"net1\" accept",
        "tcp dport 5432 accept",
        "ip daddr 10.1.0.0/16 accept",
        "tcp dport 8443 redirect to :16001",
        "ip daddr 10.0.0.0/8 meta l4proto 6 redirect to :16001",
        "ip6 daddr fd00::/8 meta l4proto 6 redirect to :16001",
        "iifname \"net1\" accept",
        "tcp dport 16021 accept",
        "tcp dport 9100 accept",
        "tcp dport 80 redirect to :16006",
        "tcp dport 443 redirect to :16006",
    ] {
        assert!(rules.contains(expected), "{expected}\n{rules}");
    }
}

#[test]
fn twice_is_once_and_other_tables_stay() {
    if lacking(&["unshare", "nft"]) {
        return;
    }
    let output = printed(
        "nft add table inet theirs
         $PROXY redirect 2>/dev/null; one=$(nft -n list table inet weft-redirect)
         $PROXY redirect 2>/dev/null; two=$(nft -n list table inet weft-redirect)
         [ \"$one\" = \"$two\" ] && echo same
         $PROXY redirect --remove 2>/dev/null; $PROXY redirect --remove 2>/dev/null
         nft -n list ruleset",
    );
    assert!(output.starts_with("same\n"), "{output}");
    assert!(output.contains("table inet theirs") && !output.contains("weft-redirect"), "{output}");
}

#[test]
fn connections_arrive_where_the_rules_say() {
    if lacking(&["unshare", "nft", "python3", "ip"]) {
        return;
    }
    let script = r#"
ip link set lo up; ip link add out type veth peer name peer; ip addr add 10.9.0.1/24 dev out
ip -6 addr add fd09::1/64 dev out nodad 2>/dev/null || true
ip link set out up; ip link set peer up
$PROXY redirect --exclude-outbound-ports=5432 2>/dev/null
python3 - <<'PY'
import socket
def listen(family, address):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((address, 15001)); s.listen(); return s
def reaches(family, address, to, port):
    server = listen(family, address); server.settimeout(3)
    client = socket.socket(family); client.settimeout(0.5)
    try:
        client.connect((to, port)); server.accept(); return True
    except OSError:
        return False
    finally:
        client.close(); server.close()
print("v4", reaches(socket.AF_INET, "127.0.0.1", "10.9.0.77", 80))
print("excluded", reaches(socket.AF_INET, "127.0.0.1", "10.9.0.77", 5432))
try:
    print("v6", reaches(socket.AF_INET6, "::1", "fd09::77", 80))
except OSError:
    print("v6 off")
PY
"#;
    let output = printed(script);
    assert!(output.contains("v4 True") && output.contains("excluded False"), "{output}");
    assert!(output.contains("v6 True") || output.contains("v6 off"), "{output}");
}

#[test]
fn where_ipv6_is_off_ipv4_is_redirected() {
    if lacking(&["unshare", "nft"]) {
        return;
    }
    let rules = printed(
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 || true
         $PROXY redirect 2>/dev/null; nft -n list table inet weft-redirect",
    );
    assert!(rules.contains("redirect to :15001"), "{rules}");
}

#[test]
fn without_the_capability_it_says_what_is_missing() {
    if lacking(&["unshare", "setpriv"]) {
        return;
    }
    let output = inside("setpriv --bounding-set=-all --inh-caps=-all $PROXY redirect");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("NET_ADMIN"), "{error}");
}

#[test]
fn without_its_program_iptables_mode_says_so() {
    if lacking(&["unshare"]) {
        return;
    }
    let output = inside("PATH=/nowhere $PROXY redirect --mode=iptables");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("redirect.image"), "{error}");
}

#[test]
fn iptables_has_the_same_rules() {
    if lacking(&["unshare", "iptables", "iptables-restore"]) {
        return;
    }
    // Users that the namespace does not know are refused here; in a pod there are none such.
    let rules = printed(
        "export XTABLES_LOCKFILE=$(mktemp)
         $PROXY redirect --mode=iptables --uid=0 --exclude-outbound-ports=5432 2>/dev/null
         $PROXY redirect --mode=iptables --uid=0 --exclude-outbound-ports=5432 2>/dev/null
         iptables -t nat -S; $PROXY redirect --mode=iptables --remove 2>/dev/null
         echo after; iptables -t nat -S",
    );
    let (during, after) = rules.split_once("after\n").unwrap();
    assert_eq!(during.matches("-A OUTPUT -p tcp -j WEFT_OUTBOUND").count(), 1, "{during}");
    assert!(during.contains("--dport 5432 -j RETURN") && during.contains("--to-ports 15001"), "{during}");
    assert!(!after.contains("WEFT"), "{after}");
}

/// A connection to a neighbour, whose end of it speaks first once redirection is there. What to run, and whether it waits.
const NEIGHBOUR: &str = r#"
ip link set lo up; ip link add out type veth peer name peer; ip addr add 10.9.0.1/24 dev out; ip link set out up
cat > "$DIR/neighbour.py" <<'PY'
import socket, sys
s = socket.create_server(("0.0.0.0", 9000)); print("listens", flush=True)
c, _ = s.accept(); sys.stdin.readline(); c.sendall(b"pushed"); sys.stdin.readline()
PY
cat > "$DIR/sidecar.py" <<'PY'
import os, socket, subprocess, threading, time
there = subprocess.Popen(["unshare", "--net", "sh", "-euc", 'echo $$; read _; ip addr add 10.9.0.2/24 dev peer; ip link set peer up; exec python3 "$DIR/neighbour.py"'],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
subprocess.run(["ip", "link", "set", "peer", "netns", there.stdout.readline().strip()], check=True)
there.stdin.write("\n"); there.stdin.flush(); there.stdout.readline()
old = socket.create_connection(("10.9.0.2", 9000)); old.settimeout(2)
health = socket.create_server(("127.0.0.1", 0)); answers = [b"503 Service Unavailable", b"200 OK"]
def answer():
    for status in answers:
        c, _ = health.accept(); c.recv(4096); c.sendall(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
threading.Thread(target=answer, daemon=True).start()
arguments = os.environ["ARGUMENTS"].replace("HEALTH", str(health.getsockname()[1])).split()
subprocess.run([os.environ["PROXY"], "redirect", "--uid=0", *arguments], check=True, stderr=subprocess.DEVNULL)
there.stdin.write("\n"); there.stdin.flush()
try:
    print(old.recv(6).decode())
except OSError as error:
    print("lost")
PY
python3 "$DIR/sidecar.py"
"#;

#[test]
fn connections_that_the_sidecar_had_before_go_on() {
    if lacking(&["unshare", "nft", "python3", "ip"]) {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("neighbour");
    std::fs::create_dir_all(&folder).unwrap();
    let with = |arguments: &str| {
        printed(&format!("export DIR={} ARGUMENTS='{arguments}'\n{NEIGHBOUR}", folder.display()))
    };
    assert_eq!(with("--once-ready=HEALTH").trim(), "pushed");
    // What this would be without: where the kernel follows connections that it did not see begin.
    if printed("cat /proc/sys/net/netfilter/nf_conntrack_tcp_loose 2>/dev/null || echo 0").trim() == "1" {
        assert_eq!(with("").trim(), "lost");
    }
}

#[test]
fn a_sidecar_that_does_not_become_ready_is_told_of() {
    if lacking(&["unshare", "ip"]) {
        return;
    }
    let output = inside("ip link set lo up; $PROXY redirect --once-ready=15021 --within=0");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("the sidecar is not ready after 0 s"), "{error}");
}

#[test]
fn told_to_end_it_ends_while_it_waits() {
    if lacking(&["unshare", "ip", "pgrep"]) {
        return;
    }
    // As the first process of its namespace, as in a container, where a signal that nobody asked for does nothing.
    let output = inside(
        "ip link set lo up; unshare --pid --fork $PROXY redirect --once-ready=15021 --within=20 & around=$!
         until first=$(pgrep --parent $around); do sleep 0.1; done
         while kill -TERM $first 2>/dev/null; do sleep 0.1; done; wait $around",
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("told to end"), "{error}");
}
