//! A disk that is a file served by this process: ext4 on a loop device writes to it, every write and every flush is
//! recorded, and it can begin to fail.
//!
//! The file is served by FUSE, the loop device turns the file system's requests into writes and flushes of it, and
//! nothing between them reorders: the record is what a disk with a volatile cache would have been asked.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

const FILE: INodeNo = INodeNo(2);
const NAME: &str = "disk";
/// Blocks of a group, and so the place of the first spare superblock.
const SPARE_SUPERBLOCK: &str = "2048";
const FOREVER: Duration = Duration::from_secs(1 << 20);

/// What the disk was asked.
#[derive(Clone, Debug)]
pub enum Asked {
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    /// Everything before is to be durable.
    Flush,
}

#[derive(Default)]
struct Disk {
    image: Vec<u8>,
    record: Vec<Asked>,
    is_failing: bool,
}

/// A file system on a recorded disk, mounted. Dropping it takes everything down.
pub struct RecordedDisk {
    disk: Arc<Mutex<Disk>>,
    mounted: Option<Mounted>,
    session: Option<BackgroundSession>,
    _folder: tempfile::TempDir,
}

impl RecordedDisk {
    /// Makes an ext4 of so many bytes; says why where that cannot be done.
    pub fn mount(bytes: usize) -> Result<RecordedDisk> {
        let folder = tempfile::tempdir()?;
        let image = fresh_image(folder.path(), bytes)?;
        RecordedDisk::mount_image(folder, image)
    }

    /// Mounts a disk as it is; what the kernel does about it is recorded too.
    pub fn of(image: Vec<u8>) -> Result<RecordedDisk> {
        RecordedDisk::mount_image(tempfile::tempdir()?, image)
    }

    fn mount_image(folder: tempfile::TempDir, image: Vec<u8>) -> Result<RecordedDisk> {
        let (fuse, target) = (folder.path().join("fuse"), folder.path().join("mounted"));
        std::fs::create_dir(&fuse)?;
        std::fs::create_dir(&target)?;
        let disk = Arc::new(Mutex::new(Disk { image, ..Disk::default() }));
        let served = Served { disk: Arc::clone(&disk) };
        let session = fuser::spawn_mount(served, &fuse, &fuser::Config::default())
            .context("mounting FUSE, which takes root and /dev/fuse")?;
        let mut recorded = RecordedDisk { disk, mounted: None, session: Some(session), _folder: folder };
        recorded.mounted = Some(Mounted::new(&fuse.join(NAME), &target)?);
        Ok(recorded)
    }

    /// Where the file system is.
    pub fn path(&self) -> PathBuf {
        self.mounted.as_ref().expect("it is mounted as long as it is").target.clone()
    }

    /// How many requests there were.
    pub fn asked(&self) -> usize {
        locked(&self.disk).record.len()
    }

    /// From now on writes and flushes fail, or succeed again.
    pub fn fail(&self, is_failing: bool) {
        locked(&self.disk).is_failing = is_failing;
    }

    /// Unmounts, and mounts again.
    pub fn remount(&mut self) -> Result<()> {
        let mounted = self.mounted.take().context("it is mounted")?;
        let (source, target) = (mounted.source.clone(), mounted.target.clone());
        drop(mounted);
        self.mounted = Some(Mounted::new(&source, &target)?);
        Ok(())
    }

    /// Everything that it was asked.
    pub fn record(&self) -> Vec<Asked> {
        locked(&self.disk).record.clone()
    }

    /// What is on it now.
    pub fn image(&self) -> Vec<u8> {
        locked(&self.disk).image.clone()
    }
}

impl Drop for RecordedDisk {
    fn drop(&mut self) {
        self.fail(false);
        self.mounted = None;
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

/// A loop device with an ext4 that is mounted.
pub struct Mounted {
    source: PathBuf,
    pub target: PathBuf,
}

impl Mounted {
    pub fn new(source: &Path, target: &Path) -> Result<Mounted> {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop,noatime"]).arg(source).arg(target))?;
        Ok(Mounted { source: source.to_owned(), target: target.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.target)) {
            eprintln!("{error:#}");
            let _ = run(Command::new("umount").arg("-l").arg(&self.target));
        }
    }
}

/// Mounts a disk after a cut. A superblock is two sectors with one checksum: where the cut fell between them the kernel
/// does not mount it, and it is repaired first, as a board does when it starts.
pub fn mount_after_cut(source: &Path, target: &Path) -> Result<(Mounted, Repair)> {
    if let Ok(mounted) = Mounted::new(source, target) {
        return Ok((mounted, Repair::None));
    }
    // e2fsck looks for spare superblocks itself where groups have their usual size. Its exit status says what it did; the
    // kernel says whether that was enough.
    Command::new("e2fsck")
        .args(["-f", "-y", "-b", SPARE_SUPERBLOCK, "-B", "4096"])
        .arg(source)
        .output()
        .context("starting e2fsck")?;
    Ok((Mounted::new(source, target)?, Repair::Superblock))
}

/// Whether a file system was repaired before it was mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    None,
    Superblock,
}

/// An ext4 in a file, nothing in it is left to be made later. Small groups, so that there are spare superblocks.
fn fresh_image(folder: &Path, bytes: usize) -> Result<Vec<u8>> {
    let path = folder.join("image");
    std::fs::File::create(&path)?.set_len(bytes as u64)?;
    let options = [
        "-q",
        "-F",
        "-b",
        "4096",
        "-g",
        SPARE_SUPERBLOCK,
        "-J",
        "size=4",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0",
    ];
    run(Command::new("mkfs.ext4").args(options).args(["-m", "0"]).arg(&path))?;
    let image = std::fs::read(&path)?;
    std::fs::remove_file(&path)?;
    Ok(image)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Whether loop devices and mounts can be had here.
pub fn can_mount() -> Result<()> {
    ensure!(Path::new("/dev/fuse").exists(), "there is no /dev/fuse");
    RecordedDisk::mount(16 << 20).map(drop)
}

fn locked(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Served {
    disk: Arc<Mutex<Disk>>,
}

impl Served {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let (kind, perm) = if inode == FILE { (FileType::RegularFile, 0o600) } else { (FileType::Directory, 0o700) };
        let size = locked(&self.disk).image.len() as u64;
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&FOREVER, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // No cache in between, so that what is written is here when the loop device says so.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let disk = locked(&self.disk);
        let start = (offset as usize).min(disk.image.len());
        let end = (start + size as usize).min(disk.image.len());
        reply.data(&disk.image[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut disk = locked(&self.disk);
        let at = offset as usize;
        if disk.is_failing || at + data.len() > disk.image.len() {
            return reply.error(Errno::EIO);
        }
        disk.image[at..at + data.len()].copy_from_slice(data);
        disk.record.push(Asked::Write { at, bytes: data.to_vec() });
        reply.written(data.len() as u32);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut disk = locked(&self.disk);
        if disk.is_failing {
            return reply.error(Errno::EIO);
        }
        disk.record.push(Asked::Flush);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
