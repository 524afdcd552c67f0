"""Puts Weft's sidecars beside Envoy, HAProxy and nginx in a side-by-side benchmark of one proxied request.

The sidecars run with their real configuration, told by the real controller from real manifests: a VirtualService with
a conditional rule, mTLS (STRICT), an AuthorizationPolicy, metrics. Explicit Sidecar listeners (`captureMode: NONE`)
take the place of redirection, so nothing here needs a privilege.

    cargo build --release -p weft-proxy -p weft-controller
    python3 peers.py --driver e2e/bench/peers_driver.py --proxies envoy,haproxy,floor,ours

`start(case, directory, certificates)` returns (the sidecars, the controller): only the sidecars are measured.
WEFT_BIN names the folder of the binaries; WEFT_WRAP is put before the sidecars' command (`valgrind ...`);
WEFT_BENCH_SERVICES adds that many services that nobody calls; WEFT_BENCH_TELEMETRY=1 an access log (JSON) and spans of
1% of the requests for a collector, without which only metrics are kept.
"""
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request

FRONT, BACK, UP_H1, UP_H2 = 18090, 18091, 18080, 18081
CONTROLLER, CONTROLLER_ADMIN, SIDECARS = 18100, 18101, 18200
COLLECTOR_AT = "127.0.0.9", 4318
HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("WEFT_BIN", os.path.join(HERE, "..", "..", "target", "release"))

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{app: {name}, security.istio.io/tlsMode: istio}}
spec: {{serviceAccountName: {name}}}
status:
  podIPs: [{{ip: {ip}}}]
  phase: Running
  conditions: [{{type: Ready, status: "True"}}]
---
"""

MANIFESTS = """
apiVersion: v1
kind: Service
metadata: {{name: bench}}
spec:
  clusterIP: 127.0.0.1
  {selector}
  ports: [{{name: {name}, port: {front}, targetPort: {target}}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: client}}
spec:
  workloadSelector: {{labels: {{app: client}}}}
  egress:
  - port: {{number: {front}, protocol: {protocol}, name: front}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ["./*"]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: server}}
spec:
  workloadSelector: {{labels: {{app: server}}}}
  ingress:
  - port: {{number: {back}, protocol: {protocol}, name: back}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{up}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: server}}
spec:
  selector: {{matchLabels: {{app: server}}}}
  rules:
  - from: [{{source: {{principals: ["cluster.local/ns/default/sa/other"]}}}}]
  - from: [{{source: {{principals: ["cluster.local/ns/default/sa/client"]}}}}]
---
"""

ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bench}
spec:
  hosts: [bench]
  http:
  - match: [{headers: {end-user: {exact: premium}}}]
    route: [{destination: {host: bench}}]
  - match: [{uri: {prefix: /admin}}]
    directResponse: {status: 404}
  - route: [{destination: {host: bench}}]
---
"""

SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: bench, labels: {{kubernetes.io/service-name: bench}}}}
addressType: IPv4
ports: [{{name: {name}, port: {up}}}]
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}}}]
---
"""

TELEMETRY = """
apiVersion: v1
kind: Namespace
metadata: {{name: weft-system}}
---
apiVersion: v1
kind: Service
metadata: {{name: collector}}
spec: {{clusterIP: {address}, ports: [{{name: http, port: {collector}}}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: weft, namespace: weft-system}}
data:
  mesh: |
    accessLogFile: /dev/stdout
    accessLogEncoding: JSON
    enableTracing: true
    extensionProviders:
    - name: collector
      opentelemetry: {{service: collector.default.svc.cluster.local, port: {collector}, http: {{path: /v1/traces}}}}
    defaultProviders: {{tracing: [collector]}}
    defaultConfig: {{tracing: {{sampling: 1}}}}
---
"""


# Takes what it is sent.
COLLECTOR = """
import http.server, sys
class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Collector).serve_forever()
"""


def manifests(case):
    tcp, h2, mesh = case.endswith("tcp"), case.endswith("h2"), case.startswith("mesh")
    name, protocol = ("tcp", "TCP") if tcp else ("http2", "HTTP2") if h2 else ("http", "HTTP")
    up = UP_H2 if h2 else UP_H1
    text = POD.format(name="client", ip="127.0.0.2") + POD.format(name="server", ip="127.0.0.1")
    text += MANIFESTS.format(
        selector="selector: {app: server}" if mesh else "", name=name, protocol=protocol, front=FRONT,
        back=BACK, up=up, target=BACK if mesh else up)
    if not tcp:
        text += ROUTES
    if not mesh:
        text += SLICE.format(name=name, up=up)
    if os.environ.get("WEFT_BENCH_TELEMETRY"):
        text += TELEMETRY.format(address=COLLECTOR_AT[0], collector=COLLECTOR_AT[1])
    for i in range(int(os.environ.get("WEFT_BENCH_SERVICES", "0"))):
        text += (f"apiVersion: v1\nkind: Service\nmetadata: {{name: idle-{i}}}\nspec:\n  clusterIP: 10.96.{i // 250}.{i % 250 + 1}\n"
                 f"  ports: [{{name: http, port: 80}}]\n---\n")
    return text


def token(directory, name):
    with open(f"{directory}/tokens/default_{name}.json", "w") as file:
        json.dump({"token": f"token-of-the-pod-{name}", "namespace": "default", "pod": name, "serviceAccount": name}, file)
    with open(f"{directory}/token-{name}", "w") as file:
        file.write(f"token-of-the-pod-{name}")


def controller(directory):
    log = open(f"{directory}/controller.log", "w")
    return subprocess.Popen(
        [f"{BIN}/weft-controller", "--dir", f"{directory}/manifests", "--listen", f"127.0.0.1:{CONTROLLER}",
         "--ca-dir", f"{directory}/ca", "--tokens-dir", f"{directory}/tokens", "--admin", f"127.0.0.1:{CONTROLLER_ADMIN}"],
        stdout=log, stderr=log)


def sidecar(directory, name, ip, base):
    os.makedirs(f"{directory}/state-{name}", mode=0o700, exist_ok=True)
    log = open(f"{directory}/{name}.log", "w")
    environment = dict(
        os.environ, WEFT_POD_NAME=name, WEFT_POD_NAMESPACE="default", WEFT_POD_IPS=ip, WEFT_SERVICE_ACCOUNT=name,
        WEFT_CONTROLLER=f"https://127.0.0.1:{CONTROLLER}", WEFT_TOKEN_FILE=f"{directory}/token-{name}",
        WEFT_ROOT_FILE=f"{directory}/ca/root-cert.pem", WEFT_STATE_DIR=f"{directory}/state-{name}", WEFT_WORKERS="1",
        WEFT_OUTBOUND_PORT=str(base + 1), WEFT_INBOUND_PORT=str(base + 6), WEFT_ADMIN=f"127.0.0.1:{base}",
        WEFT_METRICS_PORT=str(base + 20), WEFT_HEALTH_PORT=str(base + 21), WEFT_LOG="warn")
    command = shlex.split(os.environ.get("WEFT_WRAP", "")) + [f"{BIN}/weft-proxy", "run"]
    return subprocess.Popen(["taskset", "-c", "0"] + command, env=environment, stdout=log, stderr=log)


def wait(what, ready, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        if ready():
            return
        time.sleep(0.05)
    raise SystemExit(f"{what} did not become ready")


def healthy(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz/ready", timeout=1).status == 200
    except OSError:
        return False


def start(case, directory, certificates):
    directory = f"{directory}/weft-{case}-{time.time_ns()}"
    for folder in ("manifests", "ca", "tokens"):
        os.makedirs(f"{directory}/{folder}", mode=0o700)
    with open(f"{directory}/manifests/mesh.yaml", "w") as file:
        file.write(manifests(case))
    names = ["client", "server"] if case.startswith("mesh") else ["client"]
    for name in names:
        token(directory, name)
    measured, helpers = [], [controller(directory)]
    if os.environ.get("WEFT_BENCH_TELEMETRY"):
        helpers.append(subprocess.Popen([sys.executable, "-c", COLLECTOR, COLLECTOR_AT[0], str(COLLECTOR_AT[1])]))
    try:
        wait("the controller", lambda: os.path.exists(f"{directory}/ca/root-cert.pem"))
        for i, name in enumerate(names):
            base = SIDECARS + 100 * i
            measured.append(sidecar(directory, name, "127.0.0.2" if name == "client" else "127.0.0.1", base))
            wait(f"the sidecar of {name}", lambda: healthy(base + 21))
    except BaseException:
        for process in measured + helpers:
            process.kill()
        raise
    return measured, helpers
