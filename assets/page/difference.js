// Which tokens of a text are not those of another: by the longest common subsequence of their texts, or by author.

const LARGEST = 400_000;   // pairs to compare, some milliseconds; beyond, all between the common ends counts as different

const differing = (old, next) => {
  const same = (i, j) => old[i][TEXT] === next[j][TEXT], found = new Set();
  let start = 0, rest = 0;
  while (start < Math.min(old.length, next.length) && same(start, start)) start++;
  while (rest < Math.min(old.length, next.length) - start && same(old.length - 1 - rest, next.length - 1 - rest)) rest++;
  const n = old.length - start - rest, m = next.length - start - rest;
  const pair = (i, j) => { if (old[i][AUTHOR] !== next[j][AUTHOR]) found.add(j); };
  for (let k = 0; k < start; k++) pair(k, k);
  for (let k = 1; k <= rest; k++) pair(old.length - k, next.length - k);
  if (n * m > LARGEST) {
    for (let j = start; j < start + m; j++) found.add(j);
    return found;
  }
  const wide = m + 1, longest = new Uint16Array((n + 1) * wide);
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      longest[i * wide + j] = same(start + i, start + j) ? longest[(i + 1) * wide + j + 1] + 1
        : Math.max(longest[(i + 1) * wide + j], longest[i * wide + j + 1]);
    }
  }
  for (let i = 0, j = 0; j < m;) {
    if (i < n && same(start + i, start + j)) pair(start + i++, start + j++);
    else if (i < n && longest[(i + 1) * wide + j] >= longest[i * wide + j + 1]) i++;
    else found.add(start + j++);
  }
  return found;
};
