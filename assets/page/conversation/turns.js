// The messages of a conversation, on this page and on an exported one.
import { make } from '../lib/dom.js';
import { visible } from '../lib/format.js';

export const SPEAKERS = { system: 'System', user: 'User', assistant: 'Models' };

// A message as spans in their authors' colours. `authors` are [author, count of letters]; without them there is one plain span.
export const spansOf = ({ text, authors }) => {
  const letters = [...text];   // Python counts code points, too
  let at = 0;
  const pieces = authors?.length ? authors.map(([author, count]) => [letters.slice(at, at += count).join(''), author]) : [[text, '']];
  return pieces.map(([piece, author]) => make('span', author ? `w ${author}` : '', visible(piece)));
};
