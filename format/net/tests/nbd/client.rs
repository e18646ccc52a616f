//! A client on a raw socket, which says what it is told to, sensible or not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use understudy_format::nbd::{
    Chunk, Command, Errno, Form, InfoRequest, MetaQuery, OPTION_REPLY_HEAD_LEN, OptionReply, OptionReplyHead,
    OptionRequest, ReplyHead, Request, RequestHead, Span,
};

use super::fixture::Fixture;

/// A hang fails a test instead of stopping them all.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client(pub TcpStream, Form);

impl Client {
    pub fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream, Form::Simple)
    }

    /// Connected, greeted, not yet answered.
    pub fn greeted(fixture: &Fixture) -> Self {
        let mut client = Self::on(TcpStream::connect(fixture.tcp).unwrap());
        client.receive(18);
        client
    }

    /// Past the client's flags.
    pub fn haggling(fixture: &Fixture) -> Self {
        let mut client = Self::greeted(fixture);
        client.send(&[0, 0, 0, 3]);
        client
    }

    /// In the transmission phase with simple replies, without having asked for block sizes.
    pub fn using(fixture: &Fixture, export: &str) -> Self {
        let mut client = Self::haggling(fixture);
        client.go(export, Form::Simple);
        client
    }

    /// In the transmission phase with extended headers and these contexts; the numbers that those got.
    pub fn extended(fixture: &Fixture, export: &str, contexts: &[&str]) -> (Self, Vec<u32>) {
        let mut client = Self::haggling(fixture);
        client.option(&OptionRequest::ExtendedHeaders);
        assert_eq!(client.option_reply(), OptionReply::Ack);
        let queries = contexts.iter().map(|&name| name.to_owned()).collect();
        client.option(&OptionRequest::SetMetaContext(MetaQuery { export: export.to_owned(), queries }));
        let mut selected = Vec::new();
        while let OptionReply::MetaContext(context) = client.option_reply() {
            selected.push(context.id);
        }
        client.go(export, Form::Extended);
        (client, selected)
    }

    pub fn go(&mut self, export: &str, form: Form) {
        let info = InfoRequest { name: export.to_owned(), wants: Vec::new() };
        self.option(&OptionRequest::Go(info));
        while self.option_reply() != OptionReply::Ack {}
        self.1 = form;
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn option(&mut self, option: &OptionRequest) {
        let mut bytes = Vec::new();
        option.encode(&mut bytes);
        self.send(&bytes);
    }

    pub fn option_reply(&mut self) -> OptionReply {
        let head = self.receive(OPTION_REPLY_HEAD_LEN);
        let head = OptionReplyHead::decode(head.as_slice().try_into().unwrap()).unwrap();
        OptionReply::decode(head.kind, &self.receive(head.length as usize)).unwrap()
    }

    pub fn request_head(&mut self, head: RequestHead) {
        let mut bytes = Vec::new();
        head.encode(self.1, &mut bytes);
        self.send(&bytes);
    }

    pub fn head(&mut self, kind: u16, cookie: u64, length: u32) {
        self.request_head(RequestHead { kind, length: length.into(), ..RequestHead::disconnect(cookie) });
    }

    pub fn request(&mut self, cookie: u64, command: Command) {
        let mut bytes = Vec::new();
        Request { cookie, command }.encode(self.1, &mut bytes);
        self.send(&bytes);
    }

    pub fn read(&mut self, cookie: u64, offset: u64, length: u32) {
        let span = Span { offset, length: length.into() };
        self.request(cookie, Command::Read { span, whole: false });
    }

    pub fn write(&mut self, cookie: u64, offset: u64, data: &'static [u8], fua: bool) {
        self.request(cookie, Command::Write { offset, data: data.into(), fua });
    }

    /// The next simple reply: whose, and how it failed.
    pub fn reply(&mut self) -> (u64, Option<Errno>) {
        match ReplyHead::decode(Form::Simple, &self.receive(16)).unwrap() {
            Some((ReplyHead::Simple { cookie, error }, 16)) => (cookie, error),
            other => panic!("{other:?}"),
        }
    }

    /// The next chunk with an extended head: whose, the offset that it repeats, and what it is.
    pub fn chunk(&mut self) -> (u64, u64, Chunk) {
        match ReplyHead::decode(Form::Extended, &self.receive(32)).unwrap() {
            Some((ReplyHead::Chunk { cookie, offset: Some(offset), kind, length, .. }, 32)) => {
                let payload = Bytes::from(self.receive(length as usize));
                (cookie, offset, Chunk::decode(Form::Extended, kind, payload).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn expect_end(mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest, b""),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}
