//! The types of the events that a gateway makes about itself.

/// Type of an alert: an event that the gateway makes about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertType {
    /// A destination is found to be down.
    DestinationDown,
    /// It is up again.
    DestinationUp,
    /// Deliveries were given up.
    DeliveryDead,
    /// The store takes no webhooks.
    StoreRefusing,
    /// The store takes webhooks again.
    StoreAccepting,
    /// Requests to an endpoint cannot be verified.
    EndpointFailing,
    /// No webhook came to an endpoint for a long time.
    EndpointSilent,
}

impl AlertType {
    /// All types.
    pub const ALL: [Self; 7] = [
        Self::DestinationDown,
        Self::DestinationUp,
        Self::DeliveryDead,
        Self::StoreRefusing,
        Self::StoreAccepting,
        Self::EndpointFailing,
        Self::EndpointSilent,
    ];

    /// The type as the event has it. It begins with [`ALERT_PREFIX`](super::ALERT_PREFIX).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DestinationDown => "unwrapd.destination.down",
            Self::DestinationUp => "unwrapd.destination.up",
            Self::DeliveryDead => "unwrapd.delivery.dead",
            Self::StoreRefusing => "unwrapd.store.refusing",
            Self::StoreAccepting => "unwrapd.store.accepting",
            Self::EndpointFailing => "unwrapd.endpoint.failing",
            Self::EndpointSilent => "unwrapd.endpoint.silent",
        }
    }
}
