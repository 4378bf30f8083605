// Names of units and of the two kinds of quality, and texts in a table.
export const UNIT_NAMES = { bytes: 'bytes moved', flops: 'FLOPs', seconds: 'modelled seconds' };
export const UNIT_SHORT = { bytes: 'bytes', flops: 'FLOPs', seconds: 'seconds' };
export const QUALITY_NAMES = { right: 'accuracy', same: 'agreement with the LLM-only text' };
export const QUALITY_AXES = { right: 'right answers', same: 'agreement with the LLM-only text' };

export const fillRows = (body, rows) => {
  body.replaceChildren();
  for (const texts of rows) {
    const row = body.insertRow();
    for (const text of texts) row.insertCell().textContent = text;
  }
};
