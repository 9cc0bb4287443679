    CREATE TABLE host_labels (number INTEGER PRIMARY KEY AUTOINCREMENT, sha256 BLOB NOT NULL, action TEXT NOT NULL,
                              at_s INTEGER NOT NULL);
    CREATE INDEX host_labels_by_pair ON host_labels (sha256, number);
    CREATE INDEX pairs_by_shard ON pairs (shard);
    CREATE TABLE likenesses (pair INTEGER PRIMARY KEY, likeness INTEGER);
    CREATE TABLE groups (device TEXT NOT NULL, day TEXT NOT NULL, split TEXT NOT NULL,
                         PRIMARY KEY (device, day)) WITHOUT ROWID;
    CREATE TABLE versions (number INTEGER PRIMARY KEY, inputs BLOB NOT NULL, card BLOB NOT NULL, state TEXT NOT NULL,
                           reason TEXT, at_s INTEGER NOT NULL, withdrawn_s INTEGER);
    CREATE TABLE version_pairs (pair INTEGER NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (pair, version)) WITHOUT ROWID;
    CREATE TABLE erased (sha256 BLOB PRIMARY KEY, shard BLOB NOT NULL, at_s INTEGER NOT NULL,
                         is_done INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX erased_not_done ON erased (is_done) WHERE is_done = 0;
