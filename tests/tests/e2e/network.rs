//! An appliance and initiators on hosts of their own: what a network does to them that is cut while they work.

use std::path::{Path, PathBuf};

use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Host, Lab, Network, Rng, Run, args, compare, have_root, seed};

const SIZE: u64 = 24 * MIB;

/// An appliance and three hosts with a volume each.
struct Scene {
    appliance: Appliance,
    hosts: Vec<Host>,
    // Behind what runs in it.
    _network: Network,
    lab: Lab,
    rng: Rng,
}

const VOLUMES: [&str; 3] = ["a", "b", "c"];

impl Scene {
    fn new() -> Scene {
        let lab = Lab::new();
        let mut rng = Rng::new(seed());
        let (network, mut hosts) = Network::new(4);
        let appliance = Appliance::start_on_host(&lab, &hosts.remove(0), Vec::new());
        VOLUMES.iter().for_each(|volume| image::random(&lab.file(volume), SIZE, &mut rng));
        let scene = Scene { appliance, hosts, _network: network, lab, rng };
        scene.appliance.enrol("hosts", &scene.hosts[0], &scene.identity());
        scene
    }

    fn identity(&self) -> PathBuf {
        self.lab.file("identity")
    }

    /// A command of a host, as the one client that all of them are: a group is of one.
    fn on(&self, at: usize, run: Run) -> Run {
        self.hosts[at].on(run.env("UNDERSTUDY_IDENTITY", self.identity()))
    }

    fn source(&self, at: usize) -> PathBuf {
        self.lab.file(VOLUMES[at])
    }

    /// A run of a host, which has a state directory of its own and tries again often and soon.
    fn replicate(&self, at: usize, more: &[&str]) -> Run {
        let mut arguments = Appliance::replicate_args(&self.source(at), VOLUMES[at]);
        arguments.extend(more.iter().map(Into::into));
        let run =
            self.appliance.initiator(arguments).env("UNDERSTUDY_STATE_DIR", self.lab.file(&format!("state {at}")));
        self.on(at, run.env("UNDERSTUDY_RETRIES", "5000").env("UNDERSTUDY_RETRY_DELAY", "1"))
    }

    /// A restore of a host, into a file that is compared with the volume's source.
    fn assert_restores(&self, at: usize, to: &Path) {
        let run = self.appliance.initiator(args!["restore", VOLUMES[at], to, "--json"]);
        self.on(at, run).run().expect_code(0);
        compare::assert_same(to, &self.source(at), "what a host restores is its volume");
    }
}

#[test]
fn hosts_reach_each_other_until_one_is_unplugged() {
    if !have_root("a network of namespaces") {
        return;
    }
    let (network, hosts) = Network::new(2);
    let ping = |from: &Host, to: &Host| {
        // The first frames of a new link are lost now and then.
        from.on(Run::peer("ping").args(args!["-c", "1", "-W", "1", to.address()])).run().code == Some(0)
    };
    let reach = |expected: bool| {
        wait_until("the network changes", || {
            let found = ping(&hosts[0], &hosts[1]);
            if found == expected { Ok(()) } else { Err(format!("reached: {found}")) }
        });
    };
    reach(true);
    hosts[1].unplug();
    reach(false);
    hosts[1].plug_in();
    reach(true);
    drop(network);
    assert_ne!(hosts[0].on(Run::peer("true")).run().code, Some(0), "nothing of it is left");
}

/// One host is unplugged in the middle of its stream, one initiator is killed, and the appliance restarted: every volume
/// ends identical, and the group that they were in has either all of its points or none.
#[test]
fn a_group_over_a_network_survives_what_happens_to_its_hosts() {
    if !have_root("a network of namespaces") {
        return;
    }
    let mut scene = Scene::new();
    let group = ["--group", "11111111-1111-4111-8111-111111111111:3"];
    let waiting = scene.replicate(0, &group).start().wait_line("\"event\":\"waiting\"");
    let slow = [&group[..], &["--bandwidth", "4M"]].concat();
    scene.replicate(2, &slow).start().wait_line("\"event\":\"progress\"").kill();
    let cut = scene.replicate(1, &slow).start().wait_line("\"event\":\"progress\"");
    scene.hosts[1].unplug();
    scene.appliance.kill();
    scene.appliance.restart();
    let waiting = waiting.wait_line("\"event\":\"retry\"").wait_line("\"event\":\"waiting\"");
    scene.hosts[1].plug_in();
    let back = scene.replicate(2, &group).run().expect_code(0);
    waiting.finish().expect_code(0);
    cut.finish().expect_code(0);
    assert!(back.summary().count("point") == 1);
    for (at, volume) in VOLUMES.iter().enumerate() {
        scene.assert_restores(at, &scene.lab.file(&format!("restored {volume}")));
    }
    image::scribble(&scene.source(0), MIB, MIB, &mut scene.rng);
    scene.replicate(0, &[]).run().expect_code(0).summary().expect_kind("incremental");
    scene.appliance.stop();
    scene.appliance.assert_pool_sound();
}

#[test]
fn a_host_that_is_no_client_sends_nothing_in_the_clear() {
    if !have_root("a network of namespaces") {
        return;
    }
    let scene = Scene::new();
    let stranger = scene.appliance.initiator(args!["volumes"]).env("UNDERSTUDY_IDENTITY", scene.lab.file("nobody"));
    scene.hosts[0]
        .on(stranger)
        .run()
        .expect_refusal()
        .says("nothing is sent that is not encrypted")
        .says("understudy login");
}
