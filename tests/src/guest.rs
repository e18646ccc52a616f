//! A small machine with a real kernel: for what no process of this one can do, such as being a kernel NBD client.
//!
//! A [`Guest`] is a stock kernel with an initramfs of busybox, the programs that a test puts in, with their libraries, and one
//! script. It reaches this machine's loopback as 10.0.2.2. The script says where it is with `cue WORD` and stays there until
//! the test has done its part ([`Playing::wait_cue`], [`Playing::go_on`]): so the two never wait for time to pass.
//!
//! Invariants: the machine dies with its value; it has no disk, so it changes nothing; it is emulated, never accelerated: stock
//! kernels hang here otherwise. `.ci/install-peers` unpacks the kernel into `target/guest`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::args;
use crate::bins::target;
use crate::lab::Lab;
use crate::run::{Run, tool};
use crate::wait::wait_until;

/// How long a guest may take from one cue to the next, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What this machine is called in there.
pub const HOST: &str = "10.0.2.2";

/// Runs before the script: devices, modules, the network, and `cue`.
const PROLOGUE: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
mkdir -p /tmp /run /mnt
cue() { echo "$1" | nc 10.0.2.2 @CUE@; }
play() {
  set -eux
  for module in @MODULES@; do modprobe $module; done
  ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0
"#;

const EPILOGUE: &str = r#"
}
# In a shell of its own: `set -e` has no effect where a result is asked for.
(play)
echo "guest: exit $?"
poweroff -f
"#;

/// A machine in the making.
pub struct Guest<'a> {
    lab: &'a Lab,
    root: PathBuf,
    modules: Vec<String>,
}

impl<'a> Guest<'a> {
    /// With busybox and a network, and nothing else.
    pub fn new(lab: &'a Lab) -> Guest<'a> {
        let guest = Guest { lab, root: lab.dir("guest root"), modules: Vec::new() };
        for dir in ["bin", "sbin", "usr/bin", "usr/sbin", "proc", "sys", "dev"] {
            fs::create_dir_all(guest.root.join(dir)).expect("a directory of the guest");
        }
        guest.copy(&which("busybox"), Path::new("/bin/busybox"));
        guest.module("virtio_pci").module("virtio_net")
    }

    /// With a program of this machine, under its name in `/bin`, and the libraries that it needs.
    pub fn program(self, program: &Path) -> Guest<'a> {
        self.copy(program, &Path::new("/bin").join(program.file_name().expect("a program has a name")));
        for library in libraries(program) {
            self.copy(&library, &library);
        }
        self
    }

    /// With a program that is found in the `PATH`.
    pub fn peer(self, name: &str) -> Guest<'a> {
        self.program(&which(name))
    }

    /// With a module of the kernel, and those that it needs, loaded before the script runs.
    pub fn module(mut self, name: &str) -> Guest<'a> {
        self.modules.push(name.to_owned());
        self
    }

    /// Boots, and runs `script` by `sh -eux`.
    pub fn play(self, script: &str) -> Playing {
        let cues = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = cues.local_addr().expect("an address").port();
        let kernel = target().join("guest");
        self.copy_modules(&kernel);
        let init = PROLOGUE.replace("@CUE@", &port.to_string()).replace("@MODULES@", &self.modules.join(" "));
        let path = self.root.join("init");
        fs::write(&path, format!("{init}{script}{EPILOGUE}")).expect("the guest's script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("an executable script");
        let (initramfs, console) = (self.lab.file("initramfs"), self.lab.file("console"));
        let pack = "cd \"$0\" && find . | cpio --quiet -o -H newc -R 0:0 > \"$1\"";
        tool("sh", args!["-c", pack, &self.root, &initramfs]);
        let child = machine(&kernel.join("vmlinuz"), &initramfs, &console);
        Playing { child, cues, cue: None, console }
    }

    /// The modules with what they need, as `modules.dep` tells.
    fn copy_modules(&self, kernel: &Path) {
        let modules = kernel.join("lib/modules");
        let version = fs::read_dir(&modules).ok().and_then(|mut found| found.next()?.ok());
        let version = version.unwrap_or_else(|| panic!("no kernel in {}: run .ci/install-peers", kernel.display()));
        let (from, to) = (version.path(), Path::new("/lib/modules").join(version.file_name()));
        let table = fs::read_to_string(from.join("modules.dep")).expect("modules.dep");
        for module in &self.modules {
            // One that is built in is in no line.
            let line = table.lines().find(|line| line.split(':').next().is_some_and(|path| stem(path) == *module));
            for path in line.unwrap_or("").split([':', ' ']).filter(|path| !path.is_empty()) {
                self.copy(&from.join(path), &to.join(path));
            }
        }
        for name in ["modules.dep", "modules.builtin", "modules.alias", "modules.symbols"] {
            self.copy(&from.join(name), &to.join(name));
        }
    }

    fn copy(&self, from: &Path, to: &Path) {
        let to = self.root.join(to.strip_prefix("/").expect("an absolute path in the guest"));
        fs::create_dir_all(to.parent().expect("a file is in a directory")).expect("a directory of the guest");
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// The name of a module by its file, as `modprobe` takes it.
fn stem(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

fn which(name: &str) -> PathBuf {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} must be installed: run .ci/install-peers"))
}

/// The shared libraries of a program, the loader among them.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let outcome = Run::peer("ldd").args(args![program]).run();
    let paths = outcome.out();
    paths.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn machine(kernel: &Path, initramfs: &Path, console: &Path) -> Child {
    let run = Run::peer("qemu-system-x86_64").args(args![
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-M",
        "pc",
        "-m",
        "512",
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-kernel",
        kernel,
        "-initrd",
        initramfs,
        "-append",
        "console=ttyS0 quiet panic=-1",
        "-netdev",
        "user,id=n0",
        "-device",
        "virtio-net-pci,netdev=n0,romfile="
    ]);
    let output = fs::File::create(console).expect("the console's file");
    let mut command = run.command();
    command.stdout(output.try_clone().expect("the same file")).stderr(output).stdin(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("cannot start `{}`: {error}", run.line()))
}

/// A machine that runs.
pub struct Playing {
    child: Child,
    cues: TcpListener,
    /// Where the script waits.
    cue: Option<TcpStream>,
    console: PathBuf,
}

impl Playing {
    /// Waits until the script says this word; it stays there until [`Playing::go_on`].
    #[track_caller]
    pub fn wait_cue(&mut self, word: &str) {
        self.cues.set_nonblocking(true).expect("a listener");
        let (child, cues) = (&mut self.child, &self.cues);
        let stream = wait_until(&format!("the guest says {word}"), || match (cues.accept(), child.try_wait()) {
            (Ok((stream, _)), _) => Ok(Some(stream)),
            (_, Ok(Some(_))) => Ok(None),
            (Err(error), _) => Err(error.to_string()),
        });
        let stream = stream.unwrap_or_else(|| panic!("the guest ended before {word}: {}", self.console()));
        stream.set_nonblocking(false).expect("a stream");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut said = String::new();
        BufReader::new(&stream).read_line(&mut said).expect("a word");
        assert_eq!(said.trim(), word, "{}", self.console());
        self.cue = Some(stream);
    }

    /// Lets the script go on.
    pub fn go_on(&mut self) {
        drop(self.cue.take());
    }

    /// Waits for the end of the script, which must have succeeded; what it wrote.
    #[track_caller]
    pub fn finish(mut self) -> String {
        let child = &mut self.child;
        wait_until("the guest ends", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        let console = self.console();
        assert!(console.contains("guest: exit 0"), "the script of the guest failed: {console}");
        console
    }

    fn console(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- the guest's console ---\n{}", self.console());
        }
    }
}
