//! Scripts for nbdsh: libnbd with its own checks switched off, so that the server's are seen.

use super::fixture::{Fixture, SIZE, byte_at, stdout};

const STRUCTURED: &str = "h.add_meta_context('base:allocation')";
const NO_CHECKS: &str = "h.set_strict_mode(0)";
/// `fails(errno, function)` passes when the function raises that error number.
const FAILS: &str = "
import errno
def fails(number, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errnum == number, (error.string, error.errnum)
    else:
        raise AssertionError('no error')
";

/// Runs `body` connected to `export` over TCP, after `before`, in both reply forms.
fn script(export: &str, before: &str, body: &str) {
    for form in [STRUCTURED, "h.set_request_structured_replies(False)"] {
        script_once(export, &format!("{form}\n{before}"), body);
    }
}

fn script_once(export: &str, before: &str, body: &str) {
    let fixture = Fixture::start();
    let connect = format!("h.connect_uri('{}')", fixture.tcp_uri(export));
    let code = [FAILS, NO_CHECKS, before, &connect, body].join("\n");
    stdout("nbdsh", &["-c", &code]);
}

#[test]
fn a_read_past_the_end_is_invalid_and_the_next_one_served() {
    let body = format!(
        "fails(errno.EINVAL, lambda: h.pread(2, {}))\nassert h.pread(1, 5) == b'\\x{:02x}'",
        SIZE - 1,
        byte_at(5)
    );
    script("pattern", "", &body);
}

#[test]
fn a_read_that_starts_far_out_is_invalid() {
    script("pattern", "", "fails(errno.EINVAL, lambda: h.pread(512, 0x7ffffffffffffe00))");
}

#[test]
fn an_unaligned_read_is_served() {
    let bytes: Vec<String> = (65_533..65_540).map(|offset| byte_at(offset).to_string()).collect();
    let body = format!("assert list(h.pread(7, 65533)) == [{}]", bytes.join(","));
    script("pattern", "", &body);
}

#[test]
fn an_unaligned_read_is_refused_for_a_client_that_asked_for_block_sizes() {
    script("writable", "", "fails(errno.EINVAL, lambda: h.pread(512, 1))");
}

#[test]
fn an_unaligned_read_is_served_for_a_client_that_did_not_ask() {
    script("writable", "h.set_request_block_size(False)", "assert h.pread(5, 1) == bytes(5)");
}

#[test]
fn a_read_of_nothing_succeeds() {
    script("pattern", "", &format!("h.pread(0, 0)\nh.pread(0, {SIZE})"));
}

#[test]
fn a_read_of_holes_is_zero() {
    script("pattern", "", "assert h.pread(65536, 65536) == bytes(65536)");
}

#[test]
fn a_read_of_a_hole_is_a_hole_chunk() {
    let body = "
chunks = []
h.pread_structured(4096, 65536, lambda buf, offset, status, err: chunks.append((offset, status)))
assert chunks == [(65536, nbd.READ_HOLE)], chunks";
    script_once("pattern", STRUCTURED, body);
}

#[test]
fn an_unfragmented_read_is_one_content_chunk() {
    let body = "
chunks = []
note = lambda buf, offset, status, err: chunks.append((offset, len(buf), status))
h.pread_structured(131072, 0, note, nbd.CMD_FLAG_DF)
assert chunks == [(0, 131072, nbd.READ_DATA)], chunks";
    script_once("pattern", STRUCTURED, body);
}

#[test]
fn a_write_to_a_read_only_export_is_not_permitted_and_the_next_read_served() {
    let body = "fails(errno.EPERM, lambda: h.pwrite(bytes(1 << 20), 0))\nh.pread(512, 0)";
    script("pattern", "", body);
}

#[test]
fn a_trim_of_a_read_only_export_is_not_permitted() {
    script("pattern", "", "fails(errno.EPERM, lambda: h.trim(512, 0))");
}

#[test]
fn zeroes_on_a_read_only_export_are_not_permitted() {
    script("pattern", "", "fails(errno.EPERM, lambda: h.zero(512, 0))");
}

#[test]
fn a_flush_that_was_not_offered_is_invalid() {
    script("pattern", "", "fails(errno.EINVAL, lambda: h.flush())");
}

#[test]
fn a_write_past_the_end_is_out_of_space() {
    script("writable", "", "fails(errno.ENOSPC, lambda: h.pwrite(bytes(512), 1 << 20))");
}

#[test]
fn every_kind_of_write_is_served() {
    let body = "
h.pwrite(b'a' * 2048, 512, nbd.CMD_FLAG_FUA)
h.zero(512, 1024, nbd.CMD_FLAG_NO_HOLE)
h.trim(512, 1536)
h.cache(512, 0)
h.flush()
h.pwrite(b'', 0)
expected = bytes(512) + b'a' * 512 + bytes(512) + b'\\xee' * 512 + b'a' * 512 + bytes(512)
assert h.pread(3072, 0) == expected";
    script("writable", "", body);
}

#[test]
fn zeroes_that_are_not_fast_are_not_supported() {
    let body = "fails(errno.ENOTSUP, lambda: h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO))";
    script("writable", "", body);
}

#[test]
fn a_block_status_reports_each_context() {
    let before = format!("{STRUCTURED}\nh.add_meta_context('x-test:odd')");
    let body = "
seen = {}
def note(context, offset, entries, err):
    seen[context] = list(entries)
h.block_status(131072, 512, note)
assert seen['base:allocation'] == [65024, 0, 65536, 3, 512, 0], seen
assert seen['x-test:odd'] == [512, 1], seen";
    script_once("pattern", &before, body);
}

#[test]
fn a_block_status_of_one_reports_one_extent_within_the_request() {
    let body = "
seen = []
note = lambda context, offset, entries, err: seen.append(list(entries))
h.block_status(131072, 0, note, nbd.CMD_FLAG_REQ_ONE)
h.block_status(512, 0, note, nbd.CMD_FLAG_REQ_ONE)
assert seen == [[65536, 0], [512, 0]], seen";
    script_once("pattern", STRUCTURED, body);
}

#[test]
fn a_block_status_past_the_end_is_invalid() {
    let body = format!("fails(errno.EINVAL, lambda: h.block_status(1024, {}, lambda *args: 0))", SIZE - 512);
    script_once("pattern", STRUCTURED, &body);
}

#[test]
fn a_block_status_without_contexts_is_invalid() {
    let body = "fails(errno.EINVAL, lambda: h.block_status(512, 0, lambda *args: 0))";
    script_once("pattern", "", body);
}

#[test]
fn a_damaged_block_is_an_input_output_error() {
    script("broken", "", "fails(errno.EIO, lambda: h.pread(512, 512))");
}

#[test]
fn a_panic_in_an_export_fails_one_request() {
    let body = "
fails(errno.EIO, lambda: h.pread(512, 8192))
fails(errno.EIO, lambda: h.pread(512, 0))";
    script("broken", "", body);
}

#[test]
fn a_client_of_export_name_with_zeroes_is_served() {
    let before = "h.set_handshake_flags(0)";
    script_once("pattern", before, "assert h.get_size() == 8389120\nh.pread(512, 0)");
}

#[test]
fn a_client_that_haggles_option_by_option_is_served() {
    let fixture = Fixture::start();
    let body = format!(
        "
h.set_opt_mode(True)
h.add_meta_context('base:allocation')
h.connect_uri('{}')
names = []
h.opt_list(lambda name, description: names.append(name))
assert names == ['pattern', 'writable'], names
h.opt_info()
assert h.get_canonical_export_name() == 'pattern', h.get_canonical_export_name()
h.set_export_name('nosuch')
fails(errno.ENOENT, lambda: h.opt_info())
h.set_export_name('pattern')
h.opt_go()
assert h.can_meta_context('base:allocation')
h.pread(512, 0)",
        fixture.tcp_uri("")
    );
    let before = "h.set_full_info(True)";
    stdout("nbdsh", &["-c", &[FAILS, before, &body].join("\n")]);
}
