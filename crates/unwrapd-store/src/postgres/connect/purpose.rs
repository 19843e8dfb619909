//! The purposes of connections, and how many connections each may have.

/// Purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// New messages.
    Accepting,
    /// Finished attempts.
    Settling,
    /// Due deliveries, and other short work.
    Claiming,
    /// Long work, which may scan many rows.
    Looking,
    /// Notifications, for which no caller waits.
    Telling,
}

impl Purpose {
    pub(crate) const ALL: [Self; 5] = [
        Self::Accepting,
        Self::Settling,
        Self::Claiming,
        Self::Looking,
        Self::Telling,
    ];

    /// Maximum number of connections.
    pub(crate) const fn connections_max(self) -> usize {
        match self {
            // While one commits, the other gathers. More connections would make smaller batches,
            // not more throughput.
            Self::Accepting | Self::Settling => 2,
            Self::Claiming | Self::Looking => 3,
            Self::Telling => 1,
        }
    }
}

/// Maximum number of connections of a gateway, for all purposes, including the listening one.
pub(crate) const CONNECTIONS_MAX: usize = {
    let (mut all, mut place) = (1, 0);
    while place < Purpose::ALL.len() {
        all += Purpose::ALL[place].connections_max();
        place += 1;
    }
    all
};
