//! Whether the other gateways on the store are configured as this one is.

use std::collections::BTreeMap;

use crate::store::Member;

/// The parts in which others differ, as it was last said in the log, by their names.
#[derive(Default)]
pub(super) struct Peers(BTreeMap<String, Vec<String>>);

impl Peers {
    /// Says what has changed since the last time.
    pub(super) fn compare(&mut self, members: &[Member]) {
        let Some(ours) = members.iter().find(|member| member.is_ours) else {
            return;
        };
        let mut differing = BTreeMap::new();
        for other in members.iter().filter(|member| !member.is_ours) {
            let parts = ours.differs_from(other);
            if !parts.is_empty() {
                differing.insert(other.name.clone(), parts);
            }
        }
        for (name, parts) in &differing {
            if self.0.get(name) != Some(parts) {
                tracing::warn!(
                    "{name}, which shares this database, is configured differently: {}. Which configuration counts depends on which of the two a webhook comes to; give both the same and send them SIGHUP",
                    parts.join(", ")
                );
            }
        }
        for name in self.0.keys() {
            let is_there = members.iter().any(|member| member.name == *name);
            if is_there && !differing.contains_key(name) {
                tracing::info!("{name} is configured as this gateway is");
            }
        }
        self.0 = differing;
    }
}
