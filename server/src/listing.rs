//! Lists in pages, with folders where they are wanted.

use std::io;

use crate::folder::{Facts, Folder};

/// What of a list is wanted.
pub(crate) struct Page {
    pub(crate) prefix: String,
    pub(crate) delimiter: String,
    /// Names from here on, without this one.
    pub(crate) after: String,
    pub(crate) most: usize,
}

/// A page of a list.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) objects: Vec<(String, Facts)>,
    /// What stands for names that have the delimiter.
    pub(crate) folders: Vec<String>,
    /// After which name the next page begins; nothing on the last one.
    pub(crate) next: Option<String>,
}

impl Page {
    /// Reads it.
    pub(crate) fn read(&self, folder: &Folder) -> io::Result<Listed> {
        let mut listed = Listed::default();
        let mut after = self.after.clone();
        if self.most == 0 {
            return Ok(listed);
        }
        loop {
            let wanted = self.most.saturating_add(1);
            let found = folder.list(&self.prefix, &after, wanted)?;
            let is_last = found.len() < wanted;
            for (name, facts) in found {
                if listed.folders.last().is_some_and(|folder| name.starts_with(folder.as_str())) {
                    after = name;
                    continue;
                }
                if listed.objects.len() + listed.folders.len() == self.most {
                    listed.next = Some(after);
                    return Ok(listed);
                }
                after.clone_from(&name);
                match self.folder_of(&name) {
                    Some(folder) => listed.folders.push(folder),
                    None => listed.objects.push((name, facts)),
                }
            }
            if is_last {
                return Ok(listed);
            }
            if let Some(folder) = listed.folders.last().filter(|folder| after.starts_with(folder.as_str())) {
                // No name in it sorts behind that.
                after = format!("{folder}{}", char::MAX);
            }
        }
    }

    /// What stands for a name and those beside it.
    fn folder_of(&self, name: &str) -> Option<String> {
        let rest = name.get(self.prefix.len()..)?;
        let at = Some(&self.delimiter).filter(|delimiter| !delimiter.is_empty())?;
        let place = rest.find(at.as_str())?;
        name.get(..self.prefix.len() + place + at.len()).map(str::to_owned)
    }
}
