//! What an export offers ([`Advert`]) and what one connection agreed on ([`Session`]).
//!
//! Invariant: a session never changes after the handshake, so that replies can be framed on any
//! thread. The structs here must not hold the export itself: that is the driver's.

use super::{CommandFlags, EXPORT_SIZE_MAX, Form, MetaContext, REQUEST_LEN_MAX, TransmissionFlags};

/// Block sizes that an export works well with, in bytes (proto.md, "Block size constraints").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Alignment of offsets and lengths; a power of two. Enforced only on clients that asked.
    pub min: u32,
    /// The size at which no request costs extra; a power of two, at least `min`.
    pub preferred: u32,
    /// Longest payload of one request; a multiple of `min`.
    pub max: u32,
}

impl Default for BlockSizes {
    fn default() -> Self {
        Self { min: 1, preferred: 4096, max: REQUEST_LEN_MAX }
    }
}

/// Size and abilities of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size, in bytes; at most [`EXPORT_SIZE_MAX`].
    pub size: u64,
    /// Block sizes.
    pub blocks: BlockSizes,
    /// What it can do. `HAS_FLAGS`, `SEND_DF` and `BLOCK_STATUS_PAYLOAD` are added by the session.
    pub flags: TransmissionFlags,
}

impl Geometry {
    /// A read-only export that any number of connections may read at once.
    pub fn read_only(size: u64) -> Self {
        let flags = TransmissionFlags::READ_ONLY | TransmissionFlags::CAN_MULTI_CONN;
        Self { size, blocks: BlockSizes::default(), flags }
    }

    /// The block sizes as sent: within what the receiver accepts.
    pub(super) fn advertised_blocks(&self) -> BlockSizes {
        let max = self.blocks.max.clamp(self.blocks.min, REQUEST_LEN_MAX);
        BlockSizes { max, ..self.blocks }
    }

    /// Size as sent: what every peer can hold in a signed integer.
    pub(super) fn advertised_size(&self) -> u64 {
        self.size.min(EXPORT_SIZE_MAX)
    }
}

/// All that the handshake tells a client about an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Canonical name, which may differ from the one asked for (`NBD_INFO_NAME`).
    pub name: String,
    /// Text for a human (`NBD_INFO_DESCRIPTION`); may be empty.
    pub description: String,
    /// Size and abilities.
    pub geometry: Geometry,
    /// Names of metadata contexts that it has, each once: as many as the [`super::Purpose`] that it was opened for needs.
    pub contexts: Vec<String>,
}

/// What one connection agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The name that the client chose, not the canonical one.
    pub export: String,
    /// How requests and replies are framed.
    pub form: Form,
    /// Size of the export, in bytes.
    pub size: u64,
    /// Flags as sent to the client.
    pub flags: TransmissionFlags,
    /// Alignment that requests must keep, in bytes; 1 unless the client asked for block sizes.
    pub alignment: u32,
    /// Longest read or write, in bytes.
    pub length_max: u32,
    /// Contexts that a block status reports, in ascending order of `id`.
    pub contexts: Vec<MetaContext>,
}

impl Session {
    /// Agrees on `advert` under the name `export`.
    pub(super) fn new(
        export: String,
        advert: &Advert,
        form: Form,
        constrained: bool,
        contexts: Vec<MetaContext>,
    ) -> Self {
        let geometry = &advert.geometry;
        let alignment = if constrained { geometry.blocks.min.max(1) } else { 1 };
        let length_max = if constrained { geometry.advertised_blocks().max } else { REQUEST_LEN_MAX };
        let (size, flags) = (geometry.advertised_size(), flags_as_sent(geometry, form, &contexts));
        Self { export, form, size, flags, alignment, length_max, contexts }
    }

    /// Whether the export may be written.
    pub fn is_writable(&self) -> bool {
        !self.flags.contains(TransmissionFlags::READ_ONLY)
    }

    /// The flags that any command may carry.
    pub(super) fn common_command_flags(&self) -> CommandFlags {
        let fua = self.flags.contains(TransmissionFlags::SEND_FUA);
        if fua { CommandFlags::FUA } else { CommandFlags::default() }
    }
}

/// The export's flags with those that belong to the session.
pub(super) fn flags_as_sent(geometry: &Geometry, form: Form, contexts: &[MetaContext]) -> TransmissionFlags {
    let (df, payload) = (TransmissionFlags::SEND_DF, TransmissionFlags::BLOCK_STATUS_PAYLOAD);
    let when = |set: bool, flag| if set { flag } else { TransmissionFlags::default() };
    let filtered = form == Form::Extended && !contexts.is_empty();
    geometry.flags.without(df | payload | TransmissionFlags::SEND_RESIZE)
        | TransmissionFlags::HAS_FLAGS
        | when(form.has_chunks(), df)
        | when(filtered, payload)
}
