// Make the captured collections keep their pre-images. Safe to repeat.
const keep = { enabled: true };
for (const name of ["articles", "posts", "repositories", "repository_files"]) {
  if (db.getCollectionNames().includes(name)) {
    db.runCommand({ collMod: name, changeStreamPreAndPostImages: keep });
  } else {
    db.createCollection(name, { changeStreamPreAndPostImages: keep });
  }
}
