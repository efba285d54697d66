//! The memory limit of the process's control group: in Kubernetes, the limit of the container.

use std::fs;
use std::path::Path;

/// The mount point of control groups.
const ROOT: &str = "/sys/fs/cgroup";
/// Version 1 represents "no limit" by a number near 2^63.
const UNLIMITED: u64 = 1 << 60;

/// The limit in bytes; `None` without a limit or a control group.
pub fn memory_limit() -> Option<usize> {
    limit(&fs::read_to_string("/proc/self/cgroup").ok()?, Path::new(ROOT))
}

/// `memberships` is the content of `/proc/self/cgroup`: a line `HIERARCHY:CONTROLLERS:PATH` per group (cgroups(7)).
fn limit(memberships: &str, root: &Path) -> Option<usize> {
    let limits = memberships.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        match controllers {
            "" => smallest(root, path, "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                smallest(&root.join("memory"), path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min().and_then(|bytes| usize::try_from(bytes).ok())
}

/// The smallest limit of a group and its ancestors. In a container, the path may be the host's, and only its root is
/// mounted: missing files are ignored.
fn smallest(root: &Path, path: &str, file: &str) -> Option<u64> {
    let group = root.join(path.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|group| group.starts_with(root));
    let read = |group: &Path| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    groups.filter_map(read).filter(|bytes| *bytes < UNLIMITED).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_smallest_limit_of_a_group_and_its_ancestors_applies() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(limit("0::/pod/app", root), None);
        write(root, "pod/app/memory.max", "max\n");
        write(root, "pod/memory.max", "268435456\n");
        assert_eq!(limit("0::/pod/app\n", root), Some(256 << 20));
        write(root, "pod/app/memory.max", "1000\n");
        assert_eq!(limit("0::/pod/app\n", root), Some(1000));
        assert_eq!(limit("0::/../host\n", root), None, "of a path that is not mounted here");
    }

    #[test]
    fn version_1_is_supported() {
        let folder = tempfile::tempdir().unwrap();
        let memberships = "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n";
        write(folder.path(), "memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit(memberships, folder.path()), None);
        write(folder.path(), "memory/docker/abc/memory.limit_in_bytes", "5000\n");
        assert_eq!(limit(memberships, folder.path()), Some(5000));
    }
}
