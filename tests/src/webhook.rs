//! A webhook that is not ours: a server of Python's library that writes down what is posted to it.
//!
//! Invariant: it refuses the first posts with 503, as often as it was told to, and writes those down as well.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::args;
use crate::lab::Lab;
use crate::run::Run;
use crate::running::Running;
use crate::wait::wait_until;

const SERVER: &str = r#"
import http.server, json, os, ssl, sys
posts, port, refused, tls = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global refused
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        head = {"type": self.headers["Content-Type"], "authorization": self.headers["Authorization"], "path": self.path}
        with open(posts, "a") as file:
            file.write(json.dumps({"head": head, "body": body}) + "\n")
        refused, code = refused - 1, 503 if refused > 0 else 204
        self.send_response(code)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
if tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls + "/server-cert.pem", tls + "/server-key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
open(port + ".new", "w").write(str(server.server_port))
os.rename(port + ".new", port)
server.serve_forever()
"#;

/// See the module documentation.
pub struct Webhook {
    _server: Running,
    posts: PathBuf,
    port: String,
    scheme: &'static str,
}

impl Webhook {
    /// Starts one that refuses the first posts; over TLS with the server's certificate in a directory.
    pub fn start(lab: &Lab, name: &str, refused: u32, certificates: Option<&Path>) -> Webhook {
        let (posts, port) = (lab.file(&format!("{name}.posts")), lab.file(&format!("{name}.port")));
        let tls = certificates.map_or("".into(), |dir| dir.display().to_string());
        let words = args!["-c", SERVER, &posts, &port, refused.to_string(), tls];
        let server = Run::peer("/usr/bin/python3").args(words).start();
        let port = wait_until("the webhook listens", || std::fs::read_to_string(&port).map_err(|e| e.to_string()));
        let scheme = if certificates.is_some() { "https" } else { "http" };
        Webhook { _server: server, posts, port, scheme }
    }

    /// Where to post.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/hook", self.scheme, self.port)
    }

    /// What was posted so far: the `head` and the `body` of each.
    pub fn posts(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.posts).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}
