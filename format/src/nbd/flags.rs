//! The four sets of flag bits (proto.md, "Flag fields").
//!
//! Each is a newtype over its wire integer, so that a command flag is never tested against an
//! export's. Unknown bits survive decoding: who may ignore them and who must refuse them differs.

macro_rules! flag_set {
    ($(#[$doc:meta])* $name:ident: $repr:ty { $($(#[$bit_doc:meta])* $bit:ident = $shift:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub $repr);

        impl $name {
            $($(#[$bit_doc])* pub const $bit: Self = Self(1 << $shift);)*
            /// Every bit that this implementation knows.
            pub const KNOWN: Self = Self(0 $(| 1 << $shift)*);

            /// Whether all bits of `other` are set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The bits that are not in `other`.
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Both sets together; `|` for constants.
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether no bit is set.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }
    };
}

flag_set! {
    /// Sent by the server in its greeting (proto.md, "Handshake flags").
    HandshakeFlags: u16 {
        /// Options may be refused without ending the connection.
        FIXED_NEWSTYLE = 0,
        /// The 124 zero bytes after `NBD_OPT_EXPORT_NAME` may be left out.
        NO_ZEROES = 1,
    }
}

flag_set! {
    /// Sent by the client after the greeting (proto.md, "Client flags").
    ClientFlags: u32 {
        /// The client understands fixed newstyle.
        FIXED_NEWSTYLE = 0,
        /// The server must leave out the 124 zero bytes.
        NO_ZEROES = 1,
    }
}

flag_set! {
    /// What an export can do (proto.md, "Transmission flags").
    TransmissionFlags: u16 {
        /// Always set on the wire.
        HAS_FLAGS = 0,
        /// Writes are refused.
        READ_ONLY = 1,
        /// `NBD_CMD_FLUSH` is served.
        SEND_FLUSH = 2,
        /// `NBD_CMD_FLAG_FUA` is honoured.
        SEND_FUA = 3,
        /// A rotating medium.
        ROTATIONAL = 4,
        /// `NBD_CMD_TRIM` is served.
        SEND_TRIM = 5,
        /// `NBD_CMD_WRITE_ZEROES` is served.
        SEND_WRITE_ZEROES = 6,
        /// `NBD_CMD_FLAG_DF` is honoured; only with replies in chunks.
        SEND_DF = 7,
        /// Several connections see one coherent export.
        CAN_MULTI_CONN = 8,
        /// `NBD_CMD_RESIZE` of an extension that is not served here.
        SEND_RESIZE = 9,
        /// `NBD_CMD_CACHE` is served.
        SEND_CACHE = 10,
        /// `NBD_CMD_FLAG_FAST_ZERO` is honoured.
        SEND_FAST_ZERO = 11,
        /// A block status may name contexts in a payload; only with extended headers.
        BLOCK_STATUS_PAYLOAD = 12,
    }
}

flag_set! {
    /// Sent with each request (proto.md, "Command flags").
    CommandFlags: u16 {
        /// Durable before the reply.
        FUA = 0,
        /// Zeroes must be allocated.
        NO_HOLE = 1,
        /// At most one content chunk in the reply to a read.
        DF = 2,
        /// At most one extent per context.
        REQ_ONE = 3,
        /// Fail rather than write zeroes slowly.
        FAST_ZERO = 4,
        /// The length is that of a payload; only with extended headers.
        PAYLOAD_LEN = 5,
    }
}
