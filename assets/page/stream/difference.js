// Which tokens of a text are not those of another: by the longest common subsequence of their texts, or by author.
import { AUTHOR, TEXT } from '../lib/threshold.js';

const LARGEST = 400_000;   // pairs to compare, some milliseconds; beyond, all between the common ends counts as different

// The length of the longest common subsequence of the ends of two sequences, from every i of n and j of m on.
const lengthsFrom = (n, m, same) => {
  const wide = m + 1, lengths = new Uint16Array((n + 1) * wide), from = (i, j) => lengths[i * wide + j];
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      lengths[i * wide + j] = same(i, j) ? from(i + 1, j + 1) + 1 : Math.max(from(i + 1, j), from(i, j + 1));
    }
  }
  return from;
};

export const differing = (old, next) => {
  const same = (i, j) => old[i][TEXT] === next[j][TEXT], different = new Set();
  const pair = (i, j) => { if (old[i][AUTHOR] !== next[j][AUTHOR]) different.add(j); };
  let start = 0, n = old.length, m = next.length;
  for (; start < Math.min(n, m) && same(start, start); start++) pair(start, start);
  while (n > start && m > start && same(n - 1, m - 1)) pair(--n, --m);
  const compared = (n - start) * (m - start) <= LARGEST;
  const between = (i, j) => same(start + i, start + j), longest = compared ? lengthsFrom(n - start, m - start, between) : null;
  for (let i = start, j = start; j < m;) {
    if (compared && i < n && same(i, j)) pair(i++, j++);
    else if (compared && i < n && longest(i + 1 - start, j - start) >= longest(i - start, j + 1 - start)) i++;
    else different.add(j++);
  }
  return different;
};
