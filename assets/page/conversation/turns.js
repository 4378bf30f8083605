// The messages of a conversation, as this page and an exported one show them.
export const SPEAKERS = { system: 'System', user: 'User', assistant: 'Models' };

// A message in pieces, as [text, "slm" or "llm"]; one piece where it is not known which model wrote what.
export const piecesOf = ({ text, authors = [] }) => {
  const letters = [...text];   // counted as the server counts them
  let at = 0;
  return authors.length ? authors.map(([author, count]) => [letters.slice(at, at += count).join(''), author]) : [[text, '']];
};
