//! STARTTLS: when it is served, what it demands, and what it forgets.

use bytes::BytesMut;

use super::handshake::{EXTENDED_HEADERS, ask, error_reply, feed, go, query};
use super::*;

const STARTTLS: &str = "49484156454f5054 00000005 00000000";
const ACK: &str = "0003e889045565a9 00000005 00000001 00000000";

/// A handshake past the client's flags.
fn begun(tls: TlsPolicy) -> Handshake {
    let mut handshake = Handshake::greeting(tls, &mut BytesMut::new());
    assert_eq!(feed(&mut handshake, "00000003").0, Ok(Step::Receive));
    handshake
}

#[test]
fn a_server_without_certificates_does_not_serve_it() {
    let (step, out) = feed(&mut begun(TlsPolicy::Off), STARTTLS);
    let refusal = Refusal::new(OptionError::Unsupported, "option 5 (STARTTLS) is not served");
    assert_eq!((step, error_reply(&out)), (Ok(Step::Receive), refusal));
}

#[test]
fn it_is_acknowledged_once() {
    for tls in [TlsPolicy::On, TlsPolicy::Require] {
        let mut handshake = begun(tls);
        assert_eq!(feed(&mut handshake, STARTTLS), (Ok(Step::StartTls), hex(ACK)));
        let (step, out) = feed(&mut handshake, STARTTLS);
        let refusal = Refusal::new(OptionError::Invalid, "the connection is encrypted already");
        assert_eq!((step, error_reply(&out)), (Ok(Step::Receive), refusal));
    }
}

#[test]
fn with_data_it_is_invalid_and_nothing_is_encrypted() {
    let mut handshake = begun(TlsPolicy::Require);
    let (step, out) = feed(&mut handshake, "49484156454f5054 00000005 00000001 00");
    let refusal = Refusal::new(OptionError::Invalid, "STARTTLS: 1 bytes too many");
    assert_eq!((step, error_reply(&out)), (Ok(Step::Receive), refusal));
    let (_, out) = feed(&mut handshake, EXTENDED_HEADERS);
    assert_eq!(error_reply(&out).error, OptionError::TlsRequired);
}

/// What follows in the same breath was sent in the clear, by whomever.
#[test]
fn bytes_before_the_answer_end_the_connection() {
    for smuggled in ["49484156454f5054 00000003 00000000", "49"] {
        let (step, out) = feed(&mut begun(TlsPolicy::On), &format!("{STARTTLS}{smuggled}"));
        let extra = hex(smuggled).len();
        assert_eq!((step, out.len()), (Err(WireError::BeforeTls { extra }), 0));
    }
}

#[test]
fn what_was_agreed_on_before_is_forgotten() {
    let mut handshake = begun(TlsPolicy::On);
    let _ = feed(&mut handshake, EXTENDED_HEADERS);
    let _ = ask(&mut handshake, &OptionRequest::SetMetaContext(query("vol", &[BASE_ALLOCATION])));
    assert_eq!(feed(&mut handshake, STARTTLS).0, Ok(Step::StartTls));
    let session = ask(&mut handshake, &go("vol", &[])).0.unwrap();
    assert_eq!((session.form, session.contexts), (Form::Simple, Vec::new()));
}

#[test]
fn where_it_is_required_nothing_but_it_and_abort_is_served_before() {
    let mut handshake = begun(TlsPolicy::Require);
    for option in [3, 4, 6, 7, 8, 9, 10, 11, 99] {
        let (step, out) = feed(&mut handshake, &format!("49484156454f5054 {option:08x} 00000001 00"));
        let refusal = Refusal::new(OptionError::TlsRequired, "this server requires TLS: send STARTTLS first");
        assert_eq!((step, error_reply(&out)), (Ok(Step::Receive), refusal), "option {option}");
    }
    assert_eq!(feed(&mut begun(TlsPolicy::Require), "49484156454f5054 00000002 00000000").0, Ok(Step::Close));
    assert_eq!(feed(&mut handshake, STARTTLS).0, Ok(Step::StartTls));
    assert!(ask(&mut handshake, &go("vol", &[])).0.is_some());
}

#[test]
fn where_it_is_required_export_name_before_ends_the_connection() {
    let (step, out) = feed(&mut begun(TlsPolicy::Require), "49484156454f5054 00000001 00000003 766f6c");
    assert!(matches!(step, Err(WireError::ExportRefused { .. })), "{step:?}");
    assert_eq!(out, b"");
}
