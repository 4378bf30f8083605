// What a visitor takes away: a file, or a text in the clipboard.

export const save = (name, type, text) => {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

// Whether it was copied: browsers keep the clipboard from pages that come over plain HTTP from another machine.
export const copy = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
};
