//! Objects by their keys, as all stages list them.

use sluice_ports::{ObjectMeta, Objects, PortError};

/// Objects listed at once.
const PAGE: usize = 10_000;

/// The objects whose keys begin with `prefix` and that are wanted, in order of their keys, page by page.
pub(crate) async fn all(
    objects: &dyn Objects,
    prefix: &str,
    is_wanted: impl Fn(&ObjectMeta) -> bool + Send + Sync,
) -> Result<Vec<ObjectMeta>, PortError> {
    let (mut wanted, mut after) = (Vec::new(), None);
    loop {
        let page = objects.list(prefix, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(wanted) };
        after = Some(last.key.clone());
        wanted.extend(page.into_iter().filter(|meta| is_wanted(meta)));
    }
}
