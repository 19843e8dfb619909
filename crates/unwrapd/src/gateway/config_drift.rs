//! Warns of gateways on the store whose configuration differs from this one's.

use std::collections::BTreeMap;

use crate::store::FleetGateway;

/// The differing parts that the log last reported, by name of the gateway.
#[derive(Default)]
pub(super) struct ConfigDrift(BTreeMap<String, Vec<String>>);

impl ConfigDrift {
    /// Logs the changes since the last call.
    pub(super) fn report(&mut self, members: &[FleetGateway]) {
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
                    gateway = name,
                    "gateway {name}, on the same database, is configured differently: {}. Each \
                     gateway applies its own configuration to the webhooks that it receives; give \
                     both the same file and send them SIGHUP",
                    parts.join(", ")
                );
            }
        }
        for name in self.0.keys() {
            let is_there = members.iter().any(|member| member.name == *name);
            if is_there && !differing.contains_key(name) {
                tracing::info!(
                    gateway = name,
                    "gateway {name} has the same configuration as this one again"
                );
            }
        }
        self.0 = differing;
    }
}
